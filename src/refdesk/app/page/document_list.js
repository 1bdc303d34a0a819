// A long list of documents of which only what is near the screen is on the page. It is cut into pieces; a piece far from the screen
// is emptied and keeps its height, so that the scroll bar, the places and the reader's eye stay where they are.

const PIECE = 40;
const NEAR = "1500px 0px";
const ROW_PX = 88; // until a piece was measured

export class DocumentList {
  #root;
  #makeRow;
  #entries = new Map(); // id → {document, seenAt}
  #rows = new Map(); // id → its row, of those on the page
  #pieces = []; // {ids, element, isDrawn}
  #total = null;
  #observer = new IntersectionObserver((seen) => seen.forEach((one) => this.#look(one)), { rootMargin: NEAR });

  /** `makeRow(entry)` gives a row: `{element, draw(entry, before)}`. */
  constructor(root, makeRow) {
    this.#root = root;
    this.#makeRow = makeRow;
  }

  get size() {
    return this.#entries.size;
  }

  /** The id of the first one, of a list that has the newest first. */
  get newest() {
    return this.#pieces.find(({ ids }) => ids.length > 0)?.ids[0] ?? "";
  }

  get ids() {
    return this.#pieces.flatMap(({ ids }) => ids);
  }

  get(id) {
    return this.#entries.get(id)?.document ?? null;
  }

  row(id) {
    return this.#rows.get(id) ?? null;
  }

  /** The documents on the page. */
  get drawn() {
    return [...this.#rows].map(([id, row]) => ({ row, entry: this.#entries.get(id) }));
  }

  /** How many there are, loaded or not: said to those who cannot see the list. */
  setTotal(total) {
    this.#total = total;
    this.#number();
  }

  /** These documents are the list now. Rows that stay keep their element, and the focus. */
  replace(documents) {
    const focused = document.activeElement;
    const kept = new Set(documents.map(({ id }) => id));
    for (const id of this.#entries.keys()) if (!kept.has(id)) this.#forget(id);
    for (const shown of documents) this.#keep(shown);
    const drawn = new Set(this.#rows.keys());
    for (const piece of this.#pieces) this.#drop(piece);
    this.#pieces = [];
    this.#addPieces(documents.map(({ id }) => id));
    this.#pieces.forEach((piece, place) => (place === 0 || piece.ids.some((id) => drawn.has(id))) && this.#draw(piece));
    this.#number();
    if (focused?.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
  }

  append(documents) {
    const fresh = documents.filter(({ id }) => !this.#entries.has(id));
    for (const shown of fresh) this.#keep(shown);
    const last = this.#pieces.at(-1);
    const room = last && !last.isDrawn ? 0 : Math.max(0, PIECE - (last?.ids.length ?? PIECE));
    const ids = fresh.map(({ id }) => id);
    last?.ids.push(...ids.slice(0, room));
    if (room > 0) this.#draw(last);
    this.#addPieces(ids.slice(room));
    this.#number();
  }

  prepend(shown) {
    this.#keep(shown);
    if (this.#pieces.length === 0) this.#addPieces([]);
    this.#pieces[0].ids.unshift(shown.id);
    this.#draw(this.#pieces[0]);
    this.#number();
  }

  /** A document's newer form; older ones that arrive late are ignored. */
  update(shown) {
    const entry = this.#entries.get(shown.id);
    if (shown.version < entry.document.version) return;
    const before = entry.document;
    this.#keep({ ...before, ...shown });
    this.#rows.get(shown.id)?.draw(entry, before);
  }

  /** Gives the row that takes its place, for the focus. */
  remove(id) {
    const element = this.#rows.get(id)?.element;
    const neighbour = element?.nextElementSibling ?? element?.previousElementSibling ?? null;
    this.#forget(id);
    element?.remove();
    for (const piece of this.#pieces) piece.ids = piece.ids.filter((one) => one !== id);
    this.#number();
    return neighbour;
  }

  #keep(shown) {
    const entry = this.#entries.get(shown.id) ?? {};
    if (entry.document && shown.version < entry.document.version) return;
    this.#entries.set(shown.id, Object.assign(entry, { document: shown, seenAt: performance.now() }));
  }

  #forget(id) {
    this.#entries.delete(id);
    this.#rows.delete(id);
  }

  #addPieces(ids) {
    for (let begin = 0; begin < Math.max(1, ids.length); begin += PIECE) {
      if (ids.length === 0 && this.#pieces.length > 0) return;
      const element = document.createElement("div");
      element.role = "presentation";
      const piece = { ids: ids.slice(begin, begin + PIECE), element, isDrawn: false };
      element.style.height = `${piece.ids.length * ROW_PX}px`;
      this.#pieces.push(piece);
      this.#root.append(element);
      this.#observer.observe(element);
    }
  }

  #drop(piece) {
    this.#observer.unobserve(piece.element);
    piece.element.remove();
  }

  #look({ target, isIntersecting }) {
    const piece = this.#pieces.find(({ element }) => element === target);
    if (!piece) return;
    if (isIntersecting && !piece.isDrawn) this.#draw(piece);
    else if (!isIntersecting && piece.isDrawn && !target.contains(document.activeElement)) this.#empty(piece);
    this.#number();
  }

  #draw(piece) {
    piece.isDrawn = true;
    piece.element.style.height = "";
    let place = piece.element.firstElementChild;
    for (const id of piece.ids) {
      const { element } = this.#rowOf(id);
      if (element === place) place = place.nextElementSibling;
      else piece.element.insertBefore(element, place);
    }
  }

  #rowOf(id) {
    const entry = this.#entries.get(id);
    const known = this.#rows.get(id);
    const row = known ?? this.#makeRow(entry);
    this.#rows.set(id, row);
    row.draw(entry, known ? entry.document : null);
    return row;
  }

  #empty(piece) {
    piece.isDrawn = false;
    piece.element.style.height = `${piece.element.getBoundingClientRect().height}px`;
    piece.element.replaceChildren();
    for (const id of piece.ids) this.#rows.delete(id);
  }

  #number() {
    let place = 0;
    for (const { ids } of this.#pieces) {
      for (const id of ids) {
        place += 1;
        const element = this.#rows.get(id)?.element;
        element?.setAttribute("aria-posinset", place);
        element?.setAttribute("aria-setsize", this.#total ?? -1);
      }
    }
  }
}
