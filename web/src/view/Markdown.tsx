import { createElement, type ReactNode } from "react";
import { blocksOf, type Block, type Inline } from "../model/markdown";

/** Light Markdown as elements: what is written can be no markup of its own. */
export function Markdown({ text }: { text: string }) {
  return <>{blocksOf(text).map(block)}</>;
}

function block(item: Block, key: number): ReactNode {
  switch (item.tag) {
    case "hr":
      return <hr key={key} />;
    case "pre":
      return (
        <pre key={key}>
          <code>{item.text}</code>
        </pre>
      );
    case "blockquote":
      return <blockquote key={key}>{item.blocks.map(block)}</blockquote>;
    case "ul":
    case "ol": {
      const items = item.items.map((blocks, index) => <li key={index}>{blocks.map((one, place) => (one.tag === "p" ? <span key={place}>{one.inner.map(inline)}</span> : block(one, place)))}</li>);
      return item.tag === "ul" ? <ul key={key}>{items}</ul> : <ol key={key} start={item.start}>{items}</ol>;
    }
    case "p":
      return <p key={key}>{item.inner.map(inline)}</p>;
    default:
      // A note's headings are no headings of the page.
      return createElement("p", { key, className: item.tag }, ...item.inner.map(inline));
  }
}

function inline(item: Inline, key: number): ReactNode {
  if (typeof item === "string") return item;
  if (item.tag === "a")
    return (
      <a key={key} className="nodrag" href={item.href} target="_blank" rel="noopener noreferrer">
        {item.inner.map(inline)}
      </a>
    );
  return createElement(item.tag, { key }, ...item.inner.map(inline));
}
