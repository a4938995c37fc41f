import { useReactFlow, type XYPosition } from "@xyflow/react";
import { useEffect, useMemo, useRef, useState, type KeyboardEvent } from "react";
import { addNode, all, wireUp, type Command } from "../model/commands";
import { fitsOn, searchTypes } from "../model/search";
import { assignable, type NodeType } from "../model/types";
import { edit, useDocument } from "../state/document";
import { freeIdHere } from "../state/scope";
import { useUi, type Search } from "../state/ui";
import { t } from "../strings";
import { boxOf, useFlow } from "./canvas/flow";
import { focusNode } from "./canvas/keyboard";
import { WIDTH } from "./canvas/metrics";
import { colourOf } from "./colours";
import { giveBack } from "./focus";

/** Between a new node and those around it. */
const ROOM = 40;
const LEAST_HEIGHT = 120;

/** The search for a node to add, where the canvas was double-clicked or a link was dropped. */
export function SearchBox() {
  const search = useUi((ui) => ui.search);
  return search && <Box search={search} key={`${search.at.x} ${search.at.y}`} />;
}


/** That place, or one to the right of the nodes that are in the way. */
function freePlace({ x, y }: XYPosition): XYPosition {
  const boxes = useFlow.getState().nodes.map(boxOf);
  for (;;) {
    const inTheWay = boxes.find(
      ({ pos, size }) => pos[0] < x + WIDTH + ROOM && pos[0] + size[0] + ROOM > x && pos[1] < y + LEAST_HEIGHT && pos[1] + size[1] + ROOM > y,
    );
    if (!inTheWay) return { x, y };
    x = inTheWay.pos[0] + inTheWay.size[0] + ROOM;
  }
}

function Box({ search }: { search: Search }) {
  const types = useDocument((state) => state.types);
  const [before] = useState(() => document.activeElement);
  const [query, setQuery] = useState("");
  const [chosen, setChosen] = useState(0);
  const list = useRef<HTMLUListElement>(null);
  const flow = useReactFlow();
  const found = useMemo(() => searchTypes(types, query, search.fitting), [types, query, search.fitting]);
  useEffect(() => {
    list.current?.children[chosen]?.scrollIntoView({ block: "nearest" });
  }, [chosen]);

  function close(): void {
    useUi.setState({ search: null });
    giveBack(before);
  }

  function add(type: NodeType): void {
    const at = flow.screenToFlowPosition(search.at);
    const place = search.anywhere ? freePlace(at) : at;
    const id = freeIdHere(useDocument.getState().workflow);
    const commands: Command[] = [addNode(type.name, [Math.round(place.x), Math.round(place.y)], id)];
    const { fitting } = search;
    if (fitting && fitsOn(type, fitting)) {
      if (fitting.side === "source") {
        const input = type.inputs.find((item) => assignable(fitting.type, item.type));
        if (input) commands.push(wireUp({ source: fitting.node, output: Number(fitting.socket) }, id, input.name));
      } else {
        const output = type.outputs.findIndex((item) => assignable(item.type, fitting.type));
        commands.push(wireUp({ source: id, output }, fitting.node, fitting.socket));
      }
    }
    edit(all(...commands));
    useUi.setState({ search: null });
    focusNode(flow, id);
  }

  function press(event: KeyboardEvent): void {
    const type = found[chosen];
    if (event.key === "Escape") close();
    else if (event.key === "Enter" && type) add(type);
    else if (event.key === "ArrowDown") setChosen(Math.min(chosen + 1, found.length - 1));
    else if (event.key === "ArrowUp") setChosen(Math.max(chosen - 1, 0));
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  const left = Math.max(8, Math.min(search.at.x, innerWidth - 400));
  const top = Math.max(56, Math.min(search.at.y, innerHeight - 420));
  return (
    <div className="veil" onPointerDown={(event) => event.target === event.currentTarget && close()}>
      <div className="search" role="dialog" aria-label={t("search.label")} style={{ left, top }}>
        <input
          autoFocus
          role="combobox"
          aria-expanded="true"
          aria-controls="search-list"
          aria-activedescendant={found[chosen] && `search-${chosen}`}
          aria-label={t("search.label")}
          placeholder={t("search.placeholder")}
          value={query}
          onChange={(event) => {
            setQuery(event.target.value);
            setChosen(0);
          }}
          onKeyDown={press}
        />
        <ul id="search-list" role="listbox" aria-label={t("search.label")} ref={list}>
          {found.map((type, index) => (
            <li
              key={type.name}
              id={`search-${index}`}
              role="option"
              aria-selected={index === chosen}
              onPointerMove={() => setChosen(index)}
              onClick={() => add(type)}
            >
              <span className="name">
                {type.title}
                {type.outputs.map((output, place) => (
                  <i key={place} className="dot" style={{ background: colourOf(output.type) }} title={output.type} />
                ))}
              </span>
              <span className="about">{type.description.split("\n")[0]?.replaceAll("`", "")}</span>
            </li>
          ))}
        </ul>
        {found.length === 0 && <p className="none">{t("search.none")}</p>}
      </div>
    </div>
  );
}
