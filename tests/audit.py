"""What every page must satisfy, asked of the page itself in a browser, in both colour schemes."""

import re

CONTRAST = 4.5
PHONE = {"width": 375, "height": 800}
DESKTOP = {"width": 1280, "height": 900}
TEX = re.compile(r"\$\$|\\(?:frac|tfrac|mathcal|mathrm|hat|bar|sum|tag|lVert|text|[lr]angle)\b")
GENERIC = re.compile(
    r"(?:an? |the |this )*(?:figure|plot|chart|graph|image|picture|diagram|histogram|curve)s?"
    r"[ \d.:]*(?:of (?:the )?(?:results?|data|loss(?:es)?|scores?))?[.]?|\S+\.(?:png|svg|jpe?g)",
    re.I,
)

FAULTS = """() => {
  const faults = [], all = (selector) => [...document.querySelectorAll(selector)];
  for (const fold of all("details")) fold.open = true;
  if (!document.documentElement.lang) faults.push("no lang");
  if (!document.title) faults.push("no title");
  const heads = all("h1, h2, h3, h4, h5, h6").map((h) => [+h.tagName[1], h.textContent]);
  if (heads.filter(([level]) => level === 1).length !== 1) faults.push("not one h1");
  heads.forEach(([level, text], i) => {
    if (level > (i ? heads[i - 1][0] : 0) + 1) faults.push(`a jump to h${level}: ${text}`);
    if (!text.trim()) faults.push("an empty heading");
  });
  for (const table of all("table")) {
    const heads = [...table.querySelectorAll("th")];
    if (!heads.length) faults.push("no headers: " + table.textContent.slice(0, 60));
    if (heads.some((th) => !["row", "col"].includes(th.scope))) faults.push("th without scope");
    const rows = [...table.querySelectorAll("tbody tr")];
    if (rows.some((tr) => !tr.querySelector("th"))) faults.push("a row without a header");
  }
  for (const image of all("img")) {
    if (!image.alt) faults.push("no alt: " + image.src.slice(-60));
    if (image.complete && !image.naturalWidth) faults.push("broken: " + image.src.slice(-60));
  }
  for (const field of all("input:not([type=hidden]), button"))
    if (!(field.labels?.length || field.ariaLabel || field.textContent)) faults.push("no label");
  for (const box of all("[tabindex]"))
    if (!box.getAttribute("aria-label") && box.getAttribute("role")) faults.push("no name");
  const ids = all("[id]").map((e) => e.id);
  const twice = ids.filter((id, i) => ids.indexOf(id) !== i);
  if (twice.length) faults.push("the same id twice: " + twice);
  if (all("a a").length) faults.push("a link in a link");
  return faults;
}"""

PALE = """(least) => {
  const rgba = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = ([r, g, b, a], under) =>
    [r, g, b].map((x, i) => x * a + under[i] * (1 - a));
  const light = (colour) => {
    const [r, g, b] = colour.map((x) => x / 255)
      .map((x) => (x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const root = matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255];
  const ground = (element) => {
    const under = element.parentElement ? ground(element.parentElement) : root;
    return over(rgba(getComputedStyle(element).backgroundColor), under);
  };
  const found = new Map(), walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
    if (!text || ["SCRIPT", "STYLE"].includes(element.tagName) || !element.checkVisibility())
      continue;
    const behind = ground(element);
    const ink = over(rgba(getComputedStyle(element).color), behind);
    const [a, b] = [light(ink), light(behind)].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < least) found.set(`${ink.map(Math.round)} on ${behind.map(Math.round)}`,
      `${contrast.toFixed(2)}: ${element.outerHTML.slice(0, 90)}`);
  }
  return [...found].map((pair) => pair.join(" is "));
}"""

WIDER = """() => {
  const scrolls = (e) => e && e !== document.body &&
    (getComputedStyle(e).overflowX !== "visible" || scrolls(e.parentElement));
  if (document.documentElement.scrollWidth <= innerWidth) return [];
  return [...document.body.querySelectorAll("*")]
    .filter((e) => e.getBoundingClientRect().right > innerWidth && !scrolls(e.parentElement))
    .map((e) => e.outerHTML.slice(0, 120)).slice(0, 3);
}"""


def visible_text(page) -> str:
    """The text that a reader sees as prose: not that of code."""
    return page.evaluate(
        "() => { const body = document.body.cloneNode(true); document.body.append(body);"
        "body.querySelectorAll('pre, code, script').forEach((e) => e.remove());"
        "const text = body.textContent; body.remove(); return text; }"
    )


def faults_of(page, url: str) -> list[str]:
    """All that is wrong with a page: structure, TeX, contrast in both schemes, width on a phone."""
    page.problems.clear()
    page.set_viewport_size(DESKTOP)
    page.goto(url)
    found = page.evaluate(FAULTS)
    found += [f"raw TeX: {tex}" for tex in TEX.findall(visible_text(page))]
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found += [f"{scheme}: {pale}" for pale in page.evaluate(PALE, CONTRAST)]
    page.set_viewport_size(PHONE)
    found += [f"wider than a phone: {html}" for html in page.evaluate(WIDER)]
    if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        found.append("scrolls sideways on a phone")
    return found + page.problems


def weak_alt(text: str, shortest: int) -> str:
    """What is wrong with an alt text; "" where it says something."""
    text = text.strip()
    if len(text) < shortest:
        return f"only {len(text)} characters: {text!r}"
    return f"generic: {text!r}" if GENERIC.fullmatch(text) else ""
