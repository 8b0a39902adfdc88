/* The plan editor: shows the fields that a model needs, adds components, and asks the server what the draft costs. */
(() => {
  const form = document.getElementById("plan-editor");
  if (!form) return;
  const preview = document.getElementById("preview");
  const needs = {
    flat: ["unit_price"],
    per_unit: ["unit_price"],
    graduated: ["tiers"],
    volume: ["tiers"],
    package: ["unit_price", "package_size", "free_units"],
    percentage: ["rate", "fixed_fee", "free_units", "free_events", "min_per_event", "max_per_event"],
    graduated_percentage: ["tiers"],
    dynamic: [],
  };
  const depending = [...new Set(Object.values(needs).flat())];

  const fit = (component) => {
    const model = component.querySelector('select[name$="-model"]').value;
    depending.forEach((name) => {
      const field = component.querySelector(`[data-field="${name}"]`);
      if (field) field.hidden = !needs[model].includes(name);
    });
  };
  const fitAll = () => form.querySelectorAll(".m-component").forEach(fit);

  let waiting, asked = 0;
  const ask = async () => {
    const mine = ++asked;
    const answer = await fetch(form.dataset.preview, { method: "POST", body: new FormData(form), credentials: "same-origin" });
    if (mine === asked && answer.ok) preview.innerHTML = await answer.text();
  };
  const soon = () => { clearTimeout(waiting); waiting = setTimeout(() => ask().catch(() => {}), 350); };

  form.addEventListener("input", soon);
  form.addEventListener("change", (event) => {
    if (event.target.name && event.target.name.endsWith("-model")) fit(event.target.closest(".m-component"));
    soon();
  });

  const add = document.getElementById("add-component");
  add.hidden = false;
  add.addEventListener("click", () => {
    const total = form.querySelector('input[name="c-TOTAL_FORMS"]');
    const html = document.getElementById("component-template").innerHTML.replaceAll("__prefix__", total.value);
    document.getElementById("components").insertAdjacentHTML("beforeend", html);
    total.value = Number(total.value) + 1;
    fitAll();
  });
  fitAll();
  soon();
})();
