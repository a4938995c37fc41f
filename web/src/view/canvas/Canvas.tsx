import {
  ConnectionLineType,
  Controls,
  getViewportForBounds,
  ReactFlow,
  SelectionMode,
  useReactFlow,
  useStore,
  useStoreApi,
  type Connection,
  type FinalConnectionState,
  type OnConnectStartParams,
  type ReactFlowInstance,
  type ReactFlowProps,
} from "@xyflow/react";
import { useEffect, useMemo, useState, type DragEvent, type MouseEvent } from "react";
import { addReroute, all, wireUp, type Command } from "../../model/commands";
import { portType } from "../../model/ports";
import type { Port } from "../../model/subgraphs";
import type { Link } from "../../model/workflow";
import { connectable, inputOf } from "../../model/validation";
import { wireType } from "../../model/wires";
import { edit, useDocument } from "../../state/document";
import { useMenu } from "../../state/menu";
import { FIRST_EXAMPLE, openExample } from "../../state/files";
import { useUi } from "../../state/ui";
import { t } from "../../strings";
import { colourOf } from "../colours";
import { calm, FIT } from "../motion";
import { dropFile, notePointer } from "./actions";
import { useClipboard } from "./clipboard";
import { ContextMenu } from "./ContextMenu";
import { Dots } from "./Dots";
import { Far, FAR, FARTHEST } from "./far";
import { FarEdges } from "./FarEdges";
import { boundsOf, changeEdges, changeNodes, cutEdge, inputsAt, outputAt, selectOnly, useFlow, type FlowEdge, type FlowNode } from "./flow";
import { GateView } from "./GateView";
import { GraphNodeView } from "./GraphNodeView";
import { GroupView } from "./GroupView";
import { useKeyboard } from "./keyboard";
import { MiniMap } from "./MiniMap";
import { NoteView } from "./NoteView";
import { SubgraphView, Trail } from "./SubgraphView";
import { PrimitiveView, RerouteView } from "./WireViews";

/** Of more nodes than this only a part is shown at once, and no map. */
const MANY = 1500;
const leastZoom = (count: number): number => (count > MANY ? 0.2 : 0.05);
const NONE: FlowEdge[] = [];
// The canvas is one stop of the Tab key: keyboard.ts gives the focus to nodes.
const NOT_A_STOP = { "node.a11yDescription.default": t("canvas.keys"), "edge.a11yDescription.default": "" };
const NODE_TYPES = { graph: GraphNodeView, groups: GroupView, notes: NoteView, subgraphs: SubgraphView, reroutes: RerouteView, primitives: PrimitiveView, gates: GateView };

export function Canvas() {
  const nodes = useFlow((flow) => flow.nodes);
  const edges = useFlow((flow) => flow.edges);
  const drawn = useUi((ui) => (ui.drawing ? colourOf(ui.drawing.type) : undefined));
  const flow = useReactFlow();
  const handlers = useMemo(() => handlersOf(flow.screenToFlowPosition), [flow.screenToFlowPosition]);
  const far = useStore((store) => store.transform[2] < FAR);
  const farthest = useStore((store) => store.transform[2] < FARTHEST);
  const keyboard = useKeyboard();
  const [dropping, setDropping] = useState(false);
  const [fitFirst] = useState(nodes.length > 0);
  useFocus();
  useFitOnOpen();
  useClipboard();

  function drop(event: DragEvent): void {
    event.preventDefault();
    setDropping(false);
    const file = event.dataTransfer.files[0];
    const node = event.target instanceof Element ? event.target.closest(".react-flow__node")?.getAttribute("data-id") : null;
    if (file) void dropFile(flow, file, { x: event.clientX, y: event.clientY }, node ?? undefined);
  }

  function drag(event: DragEvent): void {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    setDropping(true);
  }

  function doubleClick(event: MouseEvent): void {
    const onPane = event.target instanceof Element && event.target.classList.contains("react-flow__pane");
    if (onPane) useUi.setState({ search: { at: { x: event.clientX, y: event.clientY } } });
  }

  return (
    <main
      className="canvas"
      data-far={farthest ? "boxes" : far || undefined}
      aria-label={t("canvas.label")}
      {...keyboard.canvas}
      onDoubleClick={doubleClick}
      onDragOver={drag}
      onDragLeave={() => setDropping(false)}
      onDrop={drop}
      onPointerMove={(event) => notePointer({ x: event.clientX, y: event.clientY })}
      onPointerLeave={() => notePointer(null)}
    >
      <Far value={far}>
        <ReactFlow<FlowNode, FlowEdge>
          nodes={nodes}
          edges={far ? NONE : edges}
          nodeTypes={NODE_TYPES}
          {...handlers}
          selectionMode={SelectionMode.Partial}
          onlyRenderVisibleElements
          zoomOnDoubleClick={false}
          deleteKeyCode={null}
          edgesFocusable={false}
          ariaLabelConfig={NOT_A_STOP}
          connectionRadius={28}
          connectionLineType={ConnectionLineType.Bezier}
          {...(drawn !== undefined && { connectionLineStyle: { stroke: drawn } })}
          minZoom={leastZoom(nodes.length)}
          maxZoom={3}
          fitView={fitFirst}
          fitViewOptions={FIT}
        >
          {far && <FarEdges />}
          <Dots />
          <Controls showInteractive={false} onFitView={() => void flow.fitView(FIT)} />
          {nodes.length <= MANY && <MiniMap />}
        </ReactFlow>
      </Far>
      <Connecting stop={keyboard.stopDrawing} />
      {nodes.length === 0 && (
        <div className="hint">
          <p>{t("canvas.empty")}</p>
          <p>{t("canvas.emptyHint")}</p>
          <button className="button" onClick={() => void openExample(FIRST_EXAMPLE)}>
            {t("canvas.emptyExample")}
          </button>
        </div>
      )}
      <Trail />
      <ContextMenu />
      {dropping && <div className="dropping">{t("canvas.drop")}</div>}
    </main>
  );
}

/** What React Flow is given to call. Always the same functions: a new one would draw every node and link anew at each change. */
function handlersOf(place: ReactFlowInstance["screenToFlowPosition"]) {
  return {
    onNodesChange: changeNodes,
    onEdgesChange: changeEdges,
    onConnect: (connection) => edit(connecting(connection)),
    onReconnect: (edge, connection) => edit(all(cutEdge(edge), connecting(connection))),
    onConnectStart: startDrawing,
    onConnectEnd: endDrawing,
    onClickConnectStart: startDrawing,
    onClickConnectEnd: endDrawing,
    isValidConnection: isValid,
    onPaneContextMenu: openMenu,
    onNodeContextMenu: (event, node) => openMenu(event, { node }),
    onSelectionContextMenu: (event, [node]) => openMenu(event, { ...(node && { node }) }),
    onEdgeContextMenu: (event, edge) => openMenu(event, { edge }),
    onEdgeDoubleClick(event, edge) {
      const { x, y } = place({ x: event.clientX, y: event.clientY });
      const [end] = edge.data.ends;
      if (end && !edge.data.crosses) edit(addReroute(end.node, end.socket, [Math.round(x) - 22, Math.round(y) - 14]));
    },
  } satisfies ReactFlowProps<FlowNode, FlowEdge>;
}

function openMenu(event: MouseEvent | globalThis.MouseEvent, more: { node?: FlowNode; edge?: FlowEdge } = {}): void {
  if (event.target instanceof Element && event.target.closest("input, textarea")) return;
  event.preventDefault();
  const { node, edge } = more;
  if (node && !node.selected) selectOnly(node.id);
  if (!node) selectOnly();
  // The menu key comes without a place: under the node that has the focus, then.
  const box = event.clientX || event.clientY ? null : (event.target as Element).getBoundingClientRect();
  const at = box ? { x: box.left + 24, y: box.top + 24 } : { x: event.clientX, y: event.clientY };
  useMenu.setState({ menu: { at, ...(edge && { link: { ends: edge.data.ends, crosses: edge.data.crosses } }) } });
}

/** What to do next while a link is drawn by taps or keys. */
function Connecting({ stop }: { stop: () => void }) {
  const drawing = useUi((ui) => ui.drawing);
  return (
    <div className="connecting" role="status">
      {drawing && (
        <>
          <span>{t(drawing.side === "source" ? "connect.input" : "connect.output", { type: drawing.type })}</span>
          <button className="plain" onClick={stop} aria-label={t("connect.stop")}>
            ×
          </button>
        </>
      )}
    </div>
  );
}

/** The ends of a link to be made, as the document has them; null where there are none. */
function endsOf(connection: Connection | FlowEdge): { link: Link; ends: readonly Port[] } | null {
  const link = outputAt(connection.source, connection.sourceHandle ?? "");
  const ends = inputsAt(connection.target, connection.targetHandle ?? "");
  // From one gate to another would go past all that is shown.
  const gates = connection.source.startsWith("§in") && connection.target.startsWith("§out");
  return link && ends.length && !gates ? { link, ends } : null;
}

function connecting(connection: Connection): Command {
  const found = endsOf(connection);
  return all(...(found?.ends.map(({ node, socket }) => wireUp(found.link, node, socket)) ?? []));
}

function isValid(connection: Connection | FlowEdge): boolean {
  const { workflow, types } = useDocument.getState();
  const found = endsOf(connection);
  if (!found) return false;
  const { link } = found;
  return found.ends.every(({ node, socket }) =>
    link.source in workflow.nodes && node in workflow.nodes
      ? connectable(workflow, types, link, node, socket)
      : wireUp(link, node, socket)(workflow, types) !== workflow,
  );
}

function startDrawing(_: unknown, { nodeId, handleId, handleType }: OnConnectStartParams): void {
  if (!nodeId || !handleId || !handleType) return;
  const { workflow, types } = useDocument.getState();
  if (handleType === "source") {
    const link = outputAt(nodeId, handleId);
    if (link) useUi.setState({ drawing: { node: link.source, socket: String(link.output), type: wireType(workflow, types, link), side: handleType } });
    return;
  }
  const [end] = inputsAt(nodeId, handleId);
  if (!end) return;
  const type = inputOf(workflow, types, end.node, end.socket)?.type ?? portType(workflow, end) ?? "*";
  useUi.setState({ drawing: { ...end, type, side: handleType } });
}

function endDrawing(event: globalThis.MouseEvent | TouchEvent, state: FinalConnectionState): void {
  const { drawing } = useUi.getState();
  useUi.setState({ drawing: null });
  if (!drawing || state.isValid || state.toNode || state.toHandle) return;
  const at = "changedTouches" in event ? event.changedTouches[0] : event;
  const onPane = at && document.elementFromPoint(at.clientX, at.clientY)?.classList.contains("react-flow__pane");
  if (at && onPane) useUi.setState({ search: { at: { x: at.clientX, y: at.clientY }, fitting: drawing } });
}

/** Bring a node into view where something asks for it. */
function useFocus(): void {
  const { fitView } = useReactFlow();
  const focus = useUi((ui) => ui.focus);
  useEffect(() => {
    if (!focus) return;
    selectOnly(focus.node);
    // After the whole of a sub-graph was shown, where that was opened for it.
    let frame = requestAnimationFrame(() => {
      frame = requestAnimationFrame(() => void fitView({ nodes: [{ id: focus.node }], duration: calm(250), maxZoom: 1 }));
    });
    return () => cancelAnimationFrame(frame);
  }, [focus, fitView]);
}

/** Show the whole of a document when it is opened. */
function useFitOnOpen(): void {
  const { fitView, setViewport } = useReactFlow();
  const store = useStoreApi();
  useEffect(() => {
    let frame = 0;
    /** Sizes are known before nodes are drawn: they are drawn once, as they look from there, rather than near and then from afar. */
    function fit(): void {
      cancelAnimationFrame(frame);
      const { nodes } = useFlow.getState();
      const { width, height } = store.getState();
      // A fit of nothing would wait for the first node and then move it from under the pointer.
      if (!nodes.length) return void setViewport({ x: 0, y: 0, zoom: 1 });
      void setViewport(getViewportForBounds(boundsOf(nodes), width, height, leastZoom(nodes.length), FIT.maxZoom, FIT.padding));
      // What is shown beside the canvas may have changed as well, and with it the canvas's size.
      frame = requestAnimationFrame(() => {
        const now = store.getState();
        if (now.width !== width || now.height !== height) void fitView(FIT);
      });
    }
    const stop = useUi.subscribe((now, before) => now.opened !== before.opened && fit());
    return () => {
      stop();
      cancelAnimationFrame(frame);
    };
  }, [fitView, setViewport, store]);
}
