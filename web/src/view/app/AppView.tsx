import { useState } from "react";
import { useShallow } from "zustand/react/shallow";
import { api } from "../../api/client";
import { PARAMETER_NAME, parametersOf, widgetOf, type Parameter } from "../../model/parameters";
import { declare, describe, rename, setParameter, undeclare } from "../../model/commands";
import { isActive } from "../../model/run";
import { parameterName } from "../../model/parameters";
import { edit, useDocument } from "../../state/document";
import { useRun } from "../../state/run";
import { useUi } from "../../state/ui";
import { t } from "../../strings";
import { Icon } from "../icons";
import { titleOf } from "../titles";
import { WIDGETS } from "../widgets";
import { Calls } from "./Calls";

/** The workflow as an app: a form of its declared parameters, what it makes, and how a program calls it. */
export function AppView() {
  const workflow = useDocument((state) => state.workflow);
  const [editing, setEditing] = useState(false);
  const parameters = parametersOf(workflow);
  return (
    <main className="app" tabIndex={-1} aria-label={t("app.label")}>
      <section className="form" aria-label={t("app.form")}>
        <header>
          <h2>{workflow.title || t("bar.untitled")}</h2>
          <button className="button" aria-pressed={editing} onClick={() => setEditing(!editing)}>
            <Icon name="edit" /> {t(editing ? "app.done" : "app.edit")}
          </button>
        </header>
        {!parameters.length && <p className="about">{t("app.none")}</p>}
        {parameters.map((parameter) => (
          <Field key={parameter.places.map(({ node, input }) => `${node} ${input}`).join()} parameter={parameter} editing={editing} />
        ))}
        {(editing || !parameters.length) && <Add />}
      </section>
      <div className="side">
        <Output />
        {parameters.length > 0 && <Calls />}
      </div>
    </main>
  );
}

function Field({ parameter, editing }: { parameter: Parameter; editing: boolean }) {
  const { workflow, types } = useDocument();
  const problems = useRun((run) => run.problems);
  const { name, description } = parameter;
  const widget = widgetOf(workflow, types, parameter);
  const Kind = widget?.input.widget && WIDGETS[widget.input.widget];
  const own = problems.filter((problem) => parameter.places.some(({ node, input }) => node === problem.node && input === problem.input));
  return (
    <div className="parameter">
      {editing ? (
        <Naming parameter={parameter} />
      ) : (
        <div className="said">
          <b>{name}</b>
          {description && <span>{description}</span>}
        </div>
      )}
      {widget && Kind ? (
        <div className="widget" data-kind={widget.input.widget} data-troubled={own.length > 0 || undefined}>
          <Kind
            node={widget.node}
            input={widget.input}
            value={widget.node.values[widget.input.name] ?? widget.input.initial}
            label={name}
            set={(value) => edit(setParameter(name, value), { merge: `parameter ${name}` })}
          />
        </div>
      ) : (
        <p className="trouble">{t("app.gone")}</p>
      )}
      {own.map((problem, index) => (
        <p key={index} className="trouble">
          {problem.message} {problem.hint}
        </p>
      ))}
    </div>
  );
}

/** What a parameter is called and what is said of it, to be changed. */
function Naming({ parameter: { name, description } }: { parameter: Parameter }) {
  const [draft, setDraft] = useState(name);
  const { parameters } = useDocument((state) => state.workflow);
  const wrong = draft !== name && (!PARAMETER_NAME.test(draft) || draft in parameters);
  const take = () => (wrong || draft === name ? setDraft(name) : edit(rename(name, draft)));
  return (
    <div className="naming">
      <input
        className="field"
        aria-label={t("app.rename", { name })}
        aria-invalid={wrong}
        title={t("app.rule")}
        value={draft}
        onChange={(event) => setDraft(event.target.value)}
        onBlur={take}
        onKeyDown={(event) => event.key === "Enter" && take()}
      />
      <input
        className="field"
        aria-label={t("app.description", { name })}
        placeholder={t("app.describe")}
        value={description}
        onChange={(event) => edit(describe(name, event.target.value), { merge: `describe ${name}` })}
      />
      <button className="plain" onClick={() => edit(undeclare(name))} aria-label={t("app.remove", { name })} title={t("app.remove", { name })}>
        <Icon name="close" />
      </button>
      {wrong && <p className="trouble">{t(draft in parameters ? "app.taken" : "app.rule")}</p>}
    </div>
  );
}

/** Every widget that no parameter sets yet, to choose one from. */
function Add() {
  const { workflow, types } = useDocument();
  const known = new Set(parametersOf(workflow).flatMap(({ places }) => places.map(({ node, input }) => `${node} ${input}`)));
  return (
    <select
      className="field add"
      aria-label={t("app.add")}
      value=""
      onChange={(event) => {
        const [node = "", input = ""] = JSON.parse(event.target.value) as string[];
        const from = workflow.nodes[node];
        if (from) edit(declare(parameterName(workflow, input, titleOf(from, types)), node, input));
      }}
    >
      <option value="">{t("app.add")}</option>
      {Object.values(workflow.nodes).map((node) => {
        const free = (types.get(node.type)?.inputs ?? []).filter(
          (input) => input.widget && !(input.name in node.links) && !known.has(`${node.id} ${input.name}`),
        );
        return (
          free.length > 0 && (
            <optgroup key={node.id} label={titleOf(node, types)}>
              {free.map((input) => (
                <option key={input.name} value={JSON.stringify([node.id, input.name])}>
                  {input.name}
                </option>
              ))}
            </optgroup>
          )
        );
      })}
    </select>
  );
}

/** What the last run made; while one is at work, what it is at. */
function Output() {
  const images = useRun(useShallow((run) => Object.values(run.nodes).flatMap((node) => node.images ?? [])));
  const preview = useRun((run) => (isActive(run) ? Object.values(run.previews).at(-1) : undefined));
  const live = preview !== undefined && !images.length;
  return (
    <section className="output" aria-label={t("panel.result")}>
      {live && <img className="picture live" src={preview} alt="" />}
      {images.map((image) => (
        <button
          key={`${image.subfolder}/${image.filename}`}
          className="plain"
          aria-label={t("result.open", { name: image.filename })}
          onClick={() => useUi.setState({ viewer: image })}
        >
          <img className="picture" src={api.view(image)} alt={t("result.image", { name: image.filename })} />
        </button>
      ))}
      {!live && !images.length && (
        <div className="empty">
          <Icon name="image" />
          <p>{t("result.none")}</p>
          <p>{t("result.hint")}</p>
        </div>
      )}
    </section>
  );
}
