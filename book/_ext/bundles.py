"""Sphinx extension: few, small files for a page to load.

Without it a page loads 45 files, most of their 4 MB for nothing. What all pages
share becomes one style sheet and two scripts; the icons that are used, a font
of a few kilobytes inside the style sheet; MathJax, the parts that set TeX. The
rest is deleted from the built site.

The files come from the pinned packages, so a new release of a theme brings its
own; what the theme lists is read from its template, not repeated here.
"""

import base64
import io
import logging
import re
import shutil
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

import tinycss2
from fontTools import subset
from fontTools.ttLib import TTFont
from sphinx.builders.html._assets import _CascadingStyleSheet, _JavaScript

logging.getLogger("fontTools").setLevel(logging.WARNING)  # not every glyph

FIRST_SCRIPT = "theme-mode.js"
STYLE, FIRST, LAST = "bundle.css", "bundle.js", "bundle-end.js"
MATHJAX = "mathjax/tex-chtml.js"

UNUSED = re.compile("thebe", re.IGNORECASE)
"""What is left out: a notebook of this book has no kernel on the web."""

IMPORT = re.compile(r"@import\s+[\"']([^\"']+)[\"']\s*;")

GROUPS = {"media", "supports", "layer", "container"}
BUILT_BY_SCRIPTS = "bs-"
"""How the classes begin that Bootstrap puts together when a page runs."""

MATHJAX_PARTS = [
    "startup",
    "core",
    "input/tex",
    "output/chtml",
    "output/chtml/fonts/tex",
    "a11y/assistive-mml",
]
"""In the order in which they have to run: no menu, no loading of others."""

MATHJAX_SETTINGS = {
    "loader": {"load": []},
    "tex": {"packages": {"[-]": ["require", "autoload"]}},
}

ICON_FAMILIES = {
    "Font Awesome 6 Free": ("fa-solid-900.ttf", ".fa-solid,.fas,.fa"),
    "Font Awesome 6 Brands": ("fa-brands-400.ttf", ".fa-brands,.fab"),
}
ICON_STYLE = """\
{classes}{{font:var(--fa-font,900 1em/1 "{family}");font-style:normal;\
display:inline-block;text-rendering:auto;-webkit-font-smoothing:antialiased}}
@font-face{{font-family:"{family}";font-weight:900;font-display:block;\
src:url(data:font/woff;base64,{font}) format("woff")}}
"""
ICON_SIZES = ".fa-lg{font-size:1.25em;line-height:.05em;vertical-align:-.075em}"


AS_IT_IS = re.compile(
    r"(<(pre|script|style|textarea)\b.*?</\2>)", re.DOTALL | re.IGNORECASE
)
"""What of a page keeps its white space."""


def without_noise(script):
    """Return a script that prints nothing but errors and names no map."""
    script = re.sub(r"(?m)^//# sourceMappingURL=.*$", "", script)
    return re.sub(r"\bconsole\.(log|info|debug)\s*\(", "void (", script)


def moved(sheet, origin, target):
    """Return a style sheet whose relative addresses hold from another file."""

    def address(found):
        path = normpath(PurePosixPath(origin).parent / found[2])
        return f"url({found[1]}{relpath(path, PurePosixPath(target).parent)}"

    sheet = re.sub(r"/\*# sourceMappingURL=.*?\*/", "", sheet)
    sheet = re.sub(r"@charset [^;]*;", "", sheet)
    return re.sub(r"url\(([\"']?)(?!data:|#|/|\w+:)([^\"')]+)", address, sheet)


def icon_codes(sheet):
    """Return {name: character} of Font Awesome's style sheet."""
    rules = re.findall(r"([^{}]+)\{content:\"\\([0-9a-f]+)\"\}", sheet)
    return {
        name: chr(int(code, 16))
        for selectors, code in rules
        for name in re.findall(r"\.fa-([a-z0-9-]+):", selectors)
    }


def font_subset(path, characters):
    """Return a font file with these characters alone, as WOFF, or None."""
    font = TTFont(path, recalcTimestamp=False)
    known = [c for c in characters if ord(c) in font.getBestCmap()]
    if not known:
        return None
    options = subset.Options(layout_features=[], notdef_outline=True)
    cut = subset.Subsetter(options)
    cut.populate(text="".join(known))
    cut.subset(font)
    font.flavor = "woff"
    out = io.BytesIO()
    font.save(out)
    return out.getvalue()


def icons(folder, texts, sheets):
    r"""Return the style sheet of the icons that these texts and sheets name.

    A text names one by its class, as in "fa-download"; a sheet, by its
    character, as in "\f107".
    """
    codes = icon_codes((folder / "css" / "all.min.css").read_text("utf-8"))
    named = set(re.findall(r"\bfa-([a-z0-9-]+)", " ".join(texts)))
    used = {name: codes[name] for name in sorted(named & codes.keys())}
    sheet = " ".join(sheets)
    escapes = re.findall(r"[\"']\\(f[0-9a-f]{3})[\"']", sheet)
    shown = {chr(int(code, 16)) for code in escapes}
    shown |= set(re.findall(r"[\ue000-\uf8ff]", sheet))
    characters = sorted({*used.values(), *shown})
    rules = [
        f'.fa-{name}::before{{content:"\\{ord(character):x}"}}'
        for name, character in used.items()
    ]
    for family, (file, classes) in ICON_FAMILIES.items():
        font = font_subset(folder / "webfonts" / file, characters)
        if font is not None:
            encoded = base64.b64encode(font).decode()
            rules.append(
                ICON_STYLE.format(classes=classes, family=family, font=encoded)
            )
    return "\n".join([*rules, ICON_SIZES])


def plain_tokens(sheet):
    """Return the classes of code that look like code without a class."""
    ground = re.findall(r"\.highlight \{[^}]*[; ]color: (#\w+)", sheet)
    rules = re.findall(r"\.highlight \.(\w+) \{ ([^}]*?) \}", sheet)
    styled = {name for name, style in rules if style[7:] not in ground}
    return {name for name, _ in rules} - styled


def without_plain_spans(page, plain):
    """Return a page without the marks around code that change nothing."""
    span = rf'<span class="(?:{"|".join(sorted(plain))})">([^<]*)</span>'
    return re.sub(span, r"\1", page) if plain else page


def class_names(selector):
    """Return the classes that an element has to have to match a selector."""
    while selector != (flat := re.sub(r"\([^()]*\)", "", selector)):
        selector = flat  # :not(.x) asks for none, :is(.x, .y) for either
    return set(re.findall(r"\.((?:[\w-]|\\.)+)", selector))


def without_unused(rules, words):
    """Return the text of a style sheet without rules that can match nothing.

    A rule goes if each of its selectors names a class that is not among the
    `words` of the pages and the scripts.
    """

    def matches(selector):
        return all(
            name.startswith(BUILT_BY_SCRIPTS) or name in words
            for name in class_names(selector)
        )

    kept = []
    for rule in rules:
        if rule.type == "qualified-rule":
            selectors = tinycss2.serialize(rule.prelude).split(",")
            if any(map(matches, selectors)) or "(" in ",".join(selectors):
                kept.append(rule.serialize())
        elif rule.type == "at-rule" and rule.lower_at_keyword in GROUPS:
            inner = without_unused(
                tinycss2.parse_rule_list(rule.content, True, True), words
            )
            prelude = tinycss2.serialize(rule.prelude)
            kept += [f"@{rule.at_keyword}{prelude}{{{inner}}}"] if inner else []
        else:
            kept.append(rule.serialize())
    return "\n".join(kept)


def mathjax():
    """Return the folder of MathJax in the package that ships it."""
    (package,) = find_spec("sphinx-mathjax-offline").submodule_search_locations
    return Path(package) / "static" / "mathjax"


def write_mathjax(folder):
    """Write the parts of MathJax that set TeX as one script, and its fonts."""
    source = mathjax()
    parts = [
        (source / f"{part}.js").read_text("utf-8") for part in MATHJAX_PARTS
    ]
    names = ",".join(
        f'"{part}.js"' if "fonts" in part else f'"{part}"'
        for part in MATHJAX_PARTS
    )
    parts.insert(1, f"MathJax.loader.preLoad({names});")
    fonts = "output/chtml/fonts/woff-v2"
    shutil.copytree(
        source / fonts, folder / "mathjax" / fonts, dirs_exist_ok=True
    )
    licence = "/* MathJax 3, https://www.mathjax.org, Apache License 2.0 */\n"
    (folder / MATHJAX).write_text(licence + "\n".join(parts), "utf-8")


def text_of(static, asset):
    """Return the text of a style sheet or a script: a file's or its own."""
    own = getattr(asset, "attributes", {}).get("body")
    if UNUSED.search(own or str(asset.filename)):
        return ""
    name = str(asset.filename).removeprefix("_static/")
    return own or file_text(static, name)


def file_text(static, name):
    """Return what a file of ``_static`` is in a bundle, imports in place."""
    text = (static / name).read_text("utf-8")
    if not name.endswith(".css"):
        return without_noise(text)

    def imported(found):
        return file_text(
            static, normpath(PurePosixPath(name).parent / found[1])
        )

    return IMPORT.sub(imported, moved(text, name, STYLE))


def shared(builder):
    """Return the style sheets and the scripts of every page, in their order."""
    lists = builder._orig_css_files, builder._orig_js_files
    return [
        sorted(assets, key=lambda asset: asset.priority) for assets in lists
    ]


def naming_icons(theme):
    """Return the texts that may name an icon: templates and their code."""
    folders = [Path(folder) for folder in theme.get_theme_dirs()]
    folders += [Path(find_spec("sphinx_book_theme").origin).parent]
    folders += [Path(__file__).parent]
    return [
        path.read_text("utf-8")
        for folder in folders
        for suffix in ("html", "py", "js")
        for path in sorted(folder.rglob(f"*.{suffix}"))
        if "vendor" not in path.parts
    ]


def replace(app, pagename, templatename, context, doctree):
    """Let a page load the bundles, and what it alone needs."""
    sheets, scripts = shared(app.builder)
    context["css_files"] = [
        _CascadingStyleSheet(f"_static/{STYLE}"),
        *(file for file in context["css_files"] if file not in sheets),
    ]
    context["script_files"] = [
        _JavaScript(f"_static/{FIRST}"),
        *(file for file in context["script_files"] if file not in scripts),
    ]
    context["last_script"] = _JavaScript(f"_static/{LAST}")


def without_indents(page):
    """Return HTML without indents and empty lines, where they say nothing."""
    parts = AS_IT_IS.split(page)
    parts[::3] = [re.sub(r"\s*\n\s*", "\n", part) for part in parts[::3]]
    del parts[2::3]  # the names of the elements
    return "".join(parts)


def write(app, error):
    """Write the bundles, when all extensions have copied their files."""
    if error is not None or app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    if not (static / "vendor").exists():
        return  # nothing changed, so nothing was written anew
    (vendor,) = (static / "vendor" / "fontawesome").iterdir()
    macros = (static / "webpack-macros.html").read_text("utf-8")
    theme = re.findall(r"_static/((?:styles|scripts)/[^']+)", macros)
    of_theme = {
        suffix: [
            file_text(static, name)
            for name in dict.fromkeys(theme)
            if name.endswith(suffix)
        ]
        for suffix in (".css", ".js")
    }
    shared_sheets, shared_scripts = shared(app.builder)
    sheets = of_theme[".css"] + [text_of(static, f) for f in shared_sheets]
    sheets.append(icons(vendor, naming_icons(app.builder.theme), sheets))
    first = [file_text(static, FIRST_SCRIPT)]
    first += [text_of(static, file) for file in shared_scripts]
    last = of_theme[".js"]

    plain = plain_tokens("\n".join(sheets))
    texts = [path.read_text("utf-8") for path in static.glob("*.js")]
    for path in static.parent.rglob("*.html"):
        page = without_plain_spans(path.read_text("utf-8"), plain)
        page = without_indents(page)
        path.write_text(page, "utf-8")
        texts.append(page)
    texts += first + last
    words = set(re.findall(r"[\w-]+", "\n".join(texts)))
    rules = tinycss2.parse_stylesheet("\n".join(sheets), True, True)
    (static / STYLE).write_text(without_unused(rules, words), "utf-8")
    (static / FIRST).write_text("\n;\n".join(first), "utf-8")
    (static / LAST).write_text("\n;\n".join(last), "utf-8")
    write_mathjax(static)
    shutil.copy(vendor / "LICENSE.txt", static / "icons-license.txt")
    sweep(static, [*shared_sheets, *shared_scripts])


def sweep(static, bundled):
    """Delete what is in a bundle, and what no page loads."""
    for folder in ("vendor", "locales", "styles", "scripts"):
        shutil.rmtree(static / folder)
    names = [str(asset.filename).removeprefix("_static/") for asset in bundled]
    names += [FIRST_SCRIPT, "webpack-macros.html", "sbt-webpack-macros.html"]
    for name in filter(None, names):
        (static / name).unlink(missing_ok=True)  # some were in the folders


def configure(app, config):
    """Point Sphinx at the one MathJax; leave subpages to their own index."""
    config.html_theme_options["max_navbar_depth"] = 1
    config.mathjax_path = MATHJAX
    config.mathjax3_config = MATHJAX_SETTINGS


def setup(app):
    """Act after every extension that adds a file to a page or to the site."""
    app.connect("config-inited", configure, priority=900)
    app.connect("html-page-context", replace, priority=900)
    app.connect("build-finished", write, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
