import { useReactFlow, type ReactFlowInstance } from "@xyflow/react";
import { useEffect, useLayoutEffect, useRef, type KeyboardEvent } from "react";
import { ALIGNMENTS, all, changeItem, colourItems, cutWire, DISTRIBUTIONS, modeOf, unpackSubgraph } from "../../model/commands";
import { itemOf } from "../../model/items";
import { BYPASSED, MUTED, type Workflow } from "../../model/workflow";
import { edit, useDocument } from "../../state/document";
import { useMenu, useWriting, type Menu } from "../../state/menu";
import { useScope } from "../../state/scope";
import { useUi } from "../../state/ui";
import { t, type StringKey } from "../../strings";
import { giveBack } from "../focus";
import { COLOURS } from "../colours";
import { Icon, type IconName } from "../icons";
import { keyNames } from "../keys";
import * as actions from "./actions";
import { selectAll, selection } from "./flow";

interface Entry {
  readonly label: StringKey;
  readonly keys?: string;
  readonly icon?: IconName;
  /** A swatch in place of words. */
  readonly colour?: string;
  run(): void;
}

/** What a right click, or the menu key, offers for nodes, links and the canvas. */
export function ContextMenu() {
  const menu = useMenu((state) => state.menu);
  const flow = useReactFlow();
  return menu && <Open menu={menu} flow={flow} key={`${menu.at.x} ${menu.at.y}`} />;
}

/** What had the focus before the menu. */
let before: Element | null = null;

function close(): void {
  // Before an entry acts, not after: it may give the focus to something else.
  giveBack(before);
  useMenu.setState({ menu: null });
}

function Open({ menu, flow }: { menu: Menu; flow: ReactFlowInstance }) {
  const ref = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const box = ref.current;
    if (!box) return;
    box.style.left = `${Math.max(8, Math.min(menu.at.x, innerWidth - box.offsetWidth - 8))}px`;
    box.style.top = `${Math.max(8, Math.min(menu.at.y, innerHeight - box.offsetHeight - 8))}px`;
  }, [menu]);
  useEffect(() => {
    before = document.activeElement;
    ref.current?.querySelector("button")?.focus();
  }, []);
  function press(event: KeyboardEvent): void {
    const entries = [...(ref.current?.querySelectorAll("button") ?? [])];
    const at = entries.indexOf(document.activeElement as HTMLButtonElement);
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape" || event.key === "Tab") close();
    else if (step) entries.at((at + step) % entries.length)?.focus();
    else if (event.key === "Home") entries[0]?.focus();
    else if (event.key === "End") entries.at(-1)?.focus();
    else if (event.key !== "Enter" && event.key !== " ") return;
    else return void event.stopPropagation();
    event.preventDefault();
    event.stopPropagation();
  }
  const { workflow } = useDocument.getState();
  return (
    <div className="veil" onPointerDown={(event) => event.target === event.currentTarget && close()} onContextMenu={(event) => event.preventDefault()}>
      <div className="context" role="menu" aria-label={t("menu.label")} ref={ref} onKeyDown={press}>
        {partsFor(menu, flow, workflow).map((part, index) => (
          <div key={index} role="group" className={part[0]?.icon || part[0]?.colour ? "icons" : undefined}>
            {part.map((entry) => (
              <button
                key={entry.label}
                role="menuitem"
                tabIndex={-1}
                {...((entry.icon || entry.colour) && { "aria-label": t(entry.label), title: t(entry.label) })}
                onClick={() => {
                  close();
                  entry.run();
                }}
              >
                {entry.icon ? <Icon name={entry.icon} /> : entry.colour ? <i style={{ background: entry.colour }} /> : t(entry.label)}
                {entry.keys && (
                  <span className="keys" aria-hidden="true">
                    {keyNames(entry.keys).join(" ")}
                  </span>
                )}
              </button>
            ))}
          </div>
        ))}
      </div>
    </div>
  );
}

function partsFor({ at, link }: Menu, flow: ReactFlowInstance, workflow: Workflow): Entry[][] {
  if (link) {
    const [end] = link.ends;
    return [
      [
        ...(end && !link.crosses ? [{ label: "menu.reroute" as const, run: () => actions.rerouteAt(flow, at, end.node, end.socket) }] : []),
        { label: "menu.cutLink", run: () => edit(all(...link.ends.map(({ node, socket }) => cutWire(node, socket)))) },
      ],
    ];
  }
  const { nodes } = selection();
  if (!nodes.length) return canvasParts(at, flow);
  if (nodes.every((id) => id.startsWith("§in ") || id.startsWith("§out ")))
    return [
      [
        { label: "menu.rename", keys: "f2", run: actions.rename },
        { label: "menu.delete", keys: "delete", run: actions.removeSelected },
      ],
    ];
  const chosen = nodes.map((id) => workflow.nodes[id]).filter((node) => node !== undefined);
  const notes = nodes.filter((id) => itemOf(workflow, id)?.part === "notes");
  const marked = notes.every((id) => itemOf(workflow, id)?.data["markdown"] === true);
  const modes = nodes.flatMap((id) => modeOf(workflow, id) ?? []);
  const every = (mode: number) => modes.every((one) => one === mode);
  const modeEntries: Entry[] = [
    { label: every(MUTED) ? "menu.unmute" : "menu.mute", keys: "m", run: () => actions.toggleMode(MUTED) },
    { label: every(BYPASSED) ? "menu.unbypass" : "menu.bypass", keys: "b", run: () => actions.toggleMode(BYPASSED) },
  ];
  const nodeEntries: Entry[] = [
    { label: chosen.every((node) => node.collapsed) ? "menu.expand" : "menu.collapse", keys: "c", run: actions.toggleCollapsed },
  ];
  const colours: Entry[] = [
    ...COLOURS.map(({ label, ...look }): Entry => ({ label, colour: look.group, run: () => edit(colourItems(nodes, look)) })),
    { label: "colour.none", icon: "close", run: () => edit(colourItems(nodes, null)) },
  ];
  const framed = nodes.find((id) => itemOf(workflow, id)?.part === "subgraphs");
  const several = nodes.length > 1;
  return [
    [
      ...(several ? [] : [{ label: "menu.rename" as const, keys: "f2", run: actions.rename }]),
      { label: "menu.copy", keys: "mod+c", run: () => document.execCommand("copy") },
      { label: "menu.cut", keys: "mod+x", run: () => document.execCommand("cut") },
      { label: "menu.duplicate", keys: "mod+d", run: actions.duplicate },
      { label: "menu.delete", keys: "delete", run: actions.removeSelected },
    ],
    [...(modes.length ? modeEntries : []), ...(chosen.length ? nodeEntries : [])],
    notes.length
      ? [
          { label: "menu.write", keys: "enter", run: () => useWriting.setState({ id: notes[0] ?? null }) },
          { label: marked ? "menu.plainText" : "menu.markdown", run: () => edit(all(...notes.map((id) => changeItem(id, { markdown: !marked })))) },
        ]
      : [],
    colours,
    several
      ? [
          ...ALIGNMENTS.map((how): Entry => ({ label: `menu.align.${how}`, icon: `align-${how}`, run: () => actions.alignSelected(how) })),
          ...DISTRIBUTIONS.map(
            (how): Entry => ({ label: `menu.distribute.${how}`, icon: `distribute-${how}`, run: () => actions.distributeSelected(how) }),
          ),
        ]
      : [],
    [
      { label: "menu.group", keys: "g", run: () => actions.group(flow) },
      ...(chosen.length || framed !== undefined ? [{ label: "menu.pack" as const, run: actions.pack }] : []),
      ...(framed !== undefined
        ? [
            { label: "subgraph.open" as const, run: () => useScope.setState({ scope: framed }) },
            { label: "menu.unpack" as const, run: () => edit(unpackSubgraph(framed)) },
          ]
        : []),
      ...(chosen.length > 1 ? [{ label: "menu.arrangeSelected" as const, run: () => void actions.arrange(flow) }] : []),
      { label: "menu.fitSelected", keys: ".", run: () => actions.fitSelected(flow) },
    ],
  ].filter((part) => part.length) as Entry[][];
}

function canvasParts(at: Menu["at"], flow: ReactFlowInstance): Entry[][] {
  return [
    [
      { label: "menu.add", keys: "a", run: () => useUi.setState({ search: { at } }) },
      { label: "menu.note", keys: "n", run: () => actions.addNoteAt(flow, at) },
      { label: "menu.emptyGroup", keys: "g", run: () => actions.group(flow, at) },
    ],
    [
      { label: "menu.paste", keys: "mod+v", run: () => void pasteFromMenu(flow, at) },
      { label: "menu.selectAll", keys: "mod+a", run: selectAll },
    ],
    [
      { label: "menu.arrange", keys: "l", run: () => void actions.arrange(flow) },
      { label: "menu.fit", keys: "f", run: () => actions.fit(flow) },
    ],
  ];
}

/** A page may read the clipboard by itself only where the browser, or the person it asks, lets it. */
async function pasteFromMenu(flow: ReactFlowInstance, at: Menu["at"]): Promise<void> {
  let text: string;
  try {
    text = await navigator.clipboard.readText();
  } catch {
    useUi.getState().tell(t("paste.byKeys"));
    return;
  }
  await actions.pasteText(flow, text, at);
}
