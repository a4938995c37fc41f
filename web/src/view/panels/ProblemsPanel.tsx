import { useRun } from "../../state/run";
import { showNode } from "../../state/scope";
import { t } from "../../strings";
import { Icon } from "../icons";
import { nodeTitle } from "../titles";

export const useProblemCount = (): number => useRun((run) => run.problems.length);

/** All that is wrong; each entry leads to its node. */
export function ProblemsPanel() {
  const problems = useRun((run) => run.problems);
  if (!problems.length)
    return (
      <div className="empty">
        <Icon name="alert" />
        <p>{t("problems.none")}</p>
      </div>
    );
  return (
    <ul className="problems">
      {problems.map((problem, index) => (
        <li key={index} data-severity={problem.severity}>
          {problem.node !== undefined && (
            <button
              className="link"
              title={t("problems.show")}
              onClick={() => showNode(problem.node ?? "")}
            >
              {nodeTitle(problem.node)}
              {problem.input && <span> · {problem.input}</span>}
            </button>
          )}
          <p>{problem.message}</p>
          {problem.found && <p className="more">{t("problems.found", { found: problem.found })}</p>}
          {problem.allowed && <p className="more">{t("problems.allowed", { allowed: problem.allowed })}</p>}
          {problem.hint && <p className="more">{problem.hint}</p>}
        </li>
      ))}
    </ul>
  );
}
