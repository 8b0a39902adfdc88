/* Fields that name a row: asks the server for the rows that fit what is written, and lets the browser offer them. */
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("input[data-find]").forEach((field) => {
    const list = document.createElement("datalist");
    list.id = `${field.id || field.name}-found`;
    field.after(list);
    field.setAttribute("list", list.id);
    let waiting, asked = 0;
    const ask = async () => {
      const mine = ++asked;
      const other = field.dataset.beside && field.form.elements[field.dataset.beside];
      const term = field.value || (other ? other.value : "");
      const answer = await fetch(`${field.dataset.find}?q=${encodeURIComponent(term)}`, { credentials: "same-origin" });
      if (mine !== asked || !answer.ok) return;
      const { rows } = await answer.json();
      list.replaceChildren(...rows.map((row) => {
        const option = document.createElement("option");
        option.value = row.value;
        option.label = row.text;
        return option;
      }));
    };
    const soon = () => { clearTimeout(waiting); waiting = setTimeout(() => ask().catch(() => {}), 200); };
    field.addEventListener("input", soon);
    field.addEventListener("focus", soon);
  });
});
