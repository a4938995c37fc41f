import { createRoot } from "react-dom/client";
import "@xyflow/react/dist/base.css";
import "./view/style.css";
import { App } from "./view/App";

const root = document.getElementById("root");
if (root) createRoot(root).render(<App />);
