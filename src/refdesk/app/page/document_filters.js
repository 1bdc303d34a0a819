// Which documents are listed, and in which order: what the form above the list says.

const TYPING_MS = 250;

export class DocumentFilters {
  #form = document.getElementById("documents-filter");
  #timer = null;

  constructor(onChange) {
    const soon = (wait) => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(onChange, wait);
    };
    this.#form.addEventListener("input", (event) => soon(event.target.matches("select, [type=date]") ? 0 : TYPING_MS));
    this.#form.addEventListener("submit", (event) => event.preventDefault());
    document.getElementById("filters-clear").addEventListener("click", () => {
      this.#form.reset();
      this.focus();
      onChange();
    });
  }

  /** Into the box with the words of the title. */
  focus() {
    this.#form.elements.q.focus();
  }

  get query() {
    return new URLSearchParams([...new FormData(this.#form)].map(([name, value]) => [name, value.trim()]).filter(([, value]) => value));
  }

  get isNarrow() {
    return [...this.query.keys()].some((name) => name !== "sort");
  }

  /** What is looked for in titles. */
  get words() {
    return this.query.get("q") ?? "";
  }

  /** Whether a document that has just come belongs at the top of the list, as far as can be told here. */
  takes(shown) {
    const query = this.query;
    const words = this.words.toLowerCase();
    const isNamed = [shown.title, shown.own_title ?? ""].some((name) => name.toLowerCase().includes(words));
    const others = ["owner", "from", "to"].some((name) => query.has(name));
    return isNamed && !others && (query.get("sort") ?? "newest") === "newest"
      && (query.get("state") ?? shown.state) === shown.state
      && (!query.has("tag") || shown.tags.includes(query.get("tag")))
      && (!query.has("source") || (shown.external_id ?? "").startsWith(query.get("source")));
  }
}
