"use strict";
(function () {
  var root = document.documentElement;
  var kept = "driftcheck-theme";
  root.classList.add("js");
  try {
    var theme = localStorage.getItem(kept);
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  } catch (error) { /* a browser that keeps nothing for files */ }

  function all(selector, within) {
    return Array.prototype.slice.call((within || document).querySelectorAll(selector));
  }

  function byId(name) {
    return document.getElementById(name);
  }

  // Light and dark: as the system has it, until somebody chooses.
  function themes() {
    var button = byId("theme");
    var system = matchMedia("(prefers-color-scheme: dark)");
    function dark() {
      return root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
    }
    function show() {
      button.setAttribute("aria-pressed", String(dark()));
    }
    button.addEventListener("click", function () {
      root.dataset.theme = dark() ? "light" : "dark";
      try { localStorage.setItem(kept, root.dataset.theme); } catch (error) { /* as above */ }
      show();
    });
    system.addEventListener("change", show);
    show();
  }

  // On paper nothing can be opened.
  function printing() {
    var closed = [];
    byId("print").addEventListener("click", function () { window.print(); });
    window.addEventListener("beforeprint", function () {
      closed = all("details:not([open])");
      closed.forEach(function (details) { details.open = true; });
    });
    window.addEventListener("afterprint", function () {
      closed.forEach(function (details) { details.open = false; });
    });
  }

  function copying() {
    var said = byId("said");
    function done(button, text) {
      said.textContent = text;
      button.classList.add("done");
      setTimeout(function () { button.classList.remove("done"); }, 1600);
    }
    function byHand(pre) {
      var range = document.createRange();
      range.selectNodeContents(pre);
      var selection = getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
      return document.execCommand("copy");
    }
    document.addEventListener("click", function (event) {
      var button = event.target.closest("[data-copy]");
      if (!button) return;
      var pre = button.parentElement.querySelector("pre");
      function fallback() {
        done(button, byHand(pre) ? "Copied." : "Selected: copy it with your keyboard.");
      }
      if (navigator.clipboard) {
        navigator.clipboard.writeText(pre.textContent).then(function () { done(button, "Copied."); }, fallback);
      } else {
        fallback();
      }
    });
  }

  // A link into something folded opens it.
  function unfolding() {
    function reveal() {
      var target = location.hash.length > 1 && byId(decodeURIComponent(location.hash.slice(1)));
      if (!target) return;
      for (var node = target; node; node = node.parentElement) {
        if (node.tagName === "DETAILS") node.open = true;
      }
      target.scrollIntoView();
    }
    window.addEventListener("hashchange", reveal);
    reveal();
  }

  function filtering() {
    var form = byId("filter");
    var query = byId("query");
    var section = byId("section");
    var target = byId("target");
    var differing = byId("differing");
    var pills = all("[data-choose]", form);
    var clear = byId("clear");
    var matches = byId("matches");
    var folded = null; // what was closed before a search opened it
    var items = all("[data-item]").map(function (element) {
      return {
        element: element,
        kind: element.dataset.item,
        impact: element.dataset.impact || "",
        sections: (element.dataset.sections || "").split(" "),
        targets: element.dataset.targets === undefined ? null : element.dataset.targets.split(" "),
        same: element.hasAttribute("data-same"),
        within: null,
        text: null,
        shown: true
      };
    });
    var byElement = new Map(items.map(function (item) { return [item.element, item]; }));
    items.forEach(function (item) {
      item.within = byElement.get(item.element.parentElement.closest("[data-item]")) || null;
    });
    var groups = all("[data-group]").reverse(); // the innermost first
    var details = all("main details");

    function words() {
      return query.value.toLowerCase().split(/\s+/).filter(Boolean);
    }

    function pressed() {
      return pills.filter(function (pill) { return pill.getAttribute("aria-pressed") === "true"; })
        .map(function (pill) { return pill.dataset.choose; });
    }

    function fits(item, terms, impacts) {
      if (impacts.length && item.impact && impacts.indexOf(item.impact) < 0) return false;
      if (section && section.value && item.sections.indexOf(section.value) < 0) return false;
      if (target && target.value && item.targets && item.targets.indexOf(target.value) < 0) return false;
      if (item.same && differing && differing.checked) return false;
      if (!terms.length) return true;
      if (item.text === null) item.text = item.element.textContent.toLowerCase();
      return terms.every(function (term) { return item.text.indexOf(term) >= 0; });
    }

    function apply() {
      var terms = words();
      var impacts = pressed();
      var active = terms.length > 0 || impacts.length > 0 ||
        Boolean(section && section.value) || Boolean(target && target.value);
      items.forEach(function (item) { item.shown = fits(item, terms, impacts); });
      // A cause stays above an effect that is looked for.
      items.forEach(function (item) {
        if (item.shown && item.within) item.within.shown = true;
      });
      items.forEach(function (item) { item.element.hidden = !item.shown; });
      groups.forEach(function (group) {
        var inner = all("[data-item]", group);
        group.hidden = inner.length > 0 && inner.every(function (element) { return element.hidden; }) ||
          Boolean(target && target.value && group.dataset.target && group.dataset.target !== target.value);
      });
      unfold(terms.length > 0);
      clear.hidden = !active;
      say(active);
    }

    function unfold(searching) {
      if (searching) {
        if (!folded) folded = details.filter(function (entry) { return !entry.open; });
        folded.forEach(function (entry) {
          entry.open = Boolean(entry.matches("[data-item]:not([hidden])") || entry.querySelector("[data-item]:not([hidden])"));
        });
      } else if (folded) {
        folded.forEach(function (entry) { entry.open = false; });
        folded = null;
      }
    }

    function say(active) {
      function part(kinds, word) {
        var of = items.filter(function (item) { return kinds.indexOf(item.kind) >= 0; });
        var shown = of.filter(function (item) { return item.shown; }).length;
        return of.length ? shown + " of " + of.length + " " + word : "";
      }
      matches.textContent = active
        ? [part(["finding"], "findings"), part(["row", "change"], "facts")].filter(Boolean).join(", ")
        : "";
    }

    // On a narrow screen the choices wait until they are wanted.
    var more = byId("more");
    if (more) more.addEventListener("click", function () {
      more.setAttribute("aria-expanded", String(form.classList.toggle("open")));
    });
    form.addEventListener("submit", function (event) { event.preventDefault(); });
    form.addEventListener("reset", function () {
      pills.forEach(function (pill) { pill.setAttribute("aria-pressed", "false"); });
      setTimeout(function () { apply(); query.focus(); }, 0);
    });
    query.addEventListener("input", apply);
    [section, target, differing].forEach(function (control) {
      if (control) control.addEventListener("change", apply);
    });
    pills.forEach(function (pill) {
      pill.addEventListener("click", function () {
        pill.setAttribute("aria-pressed", String(pill.getAttribute("aria-pressed") !== "true"));
        apply();
      });
    });
    document.addEventListener("keydown", function (event) {
      var typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
      if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
        event.preventDefault();
        query.focus();
      } else if (event.key === "Escape" && event.target === query) {
        query.value = "";
        apply();
      }
    });
    apply();
  }

  document.addEventListener("DOMContentLoaded", function () {
    themes();
    printing();
    copying();
    filtering();
    unfolding();
  });
})();
