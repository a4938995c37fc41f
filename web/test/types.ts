/** Node types as a server describes them, small, and a graph of them. */

import { addNode, all, connect } from "../src/model/commands";
import { readTypes, type NodeTypes } from "../src/model/types";
import { EMPTY } from "../src/model/workflow";

export const TYPES: NodeTypes = readTypes({
  Loader: {
    input: { required: { name: [["a.safetensors", "b.safetensors"], {}] } },
    output: ["MODEL", "CLIP"],
    output_name: ["MODEL", "CLIP"],
    output_is_list: [false, false],
    display_name: "Load a model",
    description: "Loads a checkpoint.",
    category: "loaders",
    output_node: false,
  },
  Encode: {
    input: { required: { text: ["STRING", { multiline: true, default: "" }], clip: ["CLIP", {}] } },
    output: ["CONDITIONING"],
    display_name: "Encode a prompt",
    description: "Text becomes what a sampler is guided by.",
    category: "conditioning",
  },
  Sample: {
    input: {
      required: {
        model: ["MODEL", {}],
        seed: ["INT", { default: 0, min: 0, max: 18446744073709551615n, control_after_generate: true }],
        steps: ["INT", { default: 20, min: 1, max: 100 }],
        cfg: ["FLOAT", { default: 8, min: 0, max: 100, step: 0.1 }],
        positive: ["CONDITIONING", {}],
      },
      optional: { latent: ["LATENT", {}] },
    },
    output: ["LATENT"],
    display_name: "Sampler",
    description: "Denoises a latent.",
    category: "sampling",
  },
  Refine: {
    input: { required: { latent: ["LATENT", {}], amount: ["FLOAT", { default: 0.5 }] } },
    output: ["LATENT", "INT"],
    display_name: "Refine",
    description: "Denoises it once more.",
    category: "sampling",
  },
  Save: {
    input: { required: { latent: ["LATENT,IMAGE", {}] } },
    output: [],
    output_node: true,
    display_name: "Save",
    description: "Saves it.",
    category: "output",
  },
});

export const BUILT = all(
  addNode("Loader", [0, 0]),
  addNode("Encode", [300, 0]),
  addNode("Sample", [600, 0]),
  connect({ source: "1", output: 1 }, "2", "clip"),
  connect({ source: "1", output: 0 }, "3", "model"),
  connect({ source: "2", output: 0 }, "3", "positive"),
)(EMPTY, TYPES);
