"""The documentation: the site builds, commands compose, and quoted messages exist."""

import ast
import importlib.util
import re
import shlex
import subprocess
import sys

import pytest
import yaml
from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser

from castlit.cli.config_dir import CONFIG_MODULE
from castlit.cli.overrides import quote_path
from castlit.experiments.folder_arguments import folders_as_runs


@pytest.fixture(scope="module")
def docs(repository):
    return repository / "docs"


@pytest.mark.slow
@pytest.mark.nightly
def test_site_builds(repository, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pages = {str(page.relative_to(tmp_path)): page.read_text() for page in tmp_path.rglob("*.html")}
    # The API comes from the docstrings, with links; the keys come from conf/.
    assert 'id="castlit.CASTModule.training_step"' in pages["api/module.html"]
    assert re.search(r'href="nn.html#castlit.nn.HeadNorm"><code>castlit.nn.HeadNorm', pages["api/methods.html"])
    assert (
        "<code>method.queue_size</code></td>\n<td><code>2048</code></td>\n<td><code>65536</code>"
        in (pages["methods/mocov2.html"])
    )
    assert "protocol.variant=[pool_2x2,wide_costs]" in pages["protocols/voc07.html"]
    assert "<code>method.shuffle_bn</code></td>\n<td><code>true</code>" in pages["methods/mocov2.html"]
    assert "<img alt=" in pages["notebooks/03_attention.html"]
    assert "</math>" in pages["cast.html"]
    assert "max_epochs" in pages["keys.html"]
    # Search works from the files: the index is a script, and so is what takes a worker's place.
    assert (tmp_path / "search" / "search_index.js").is_file()
    assert '<script src="assets/iframe-worker.js">' in pages["index.html"]
    for name, text in pages.items():
        article = text[text.find("<article") : text.find("</article>")]
        for left_over in (
            ":class:",
            ":func:",
            ":meth:",
            "<!-- keys",
            "<!-- config",
            "--8&lt;--",
            "$<code>",
            "language-math",
        ):
            assert left_over not in article, (name, left_over)
        # The site needs no network.
        assert not re.search(r'(?:src|<link[^>]* href)="(?:https?:)?//', text), name


def test_method_pages(repository, docs):
    experiments = [path.stem for path in (repository / "conf" / "experiment").glob("*.yaml")]
    assert {"cast_mocov2", "mocov2", "mocov2_crop"} <= set(experiments)
    overview = (docs / "methods" / "index.md").read_text()
    for experiment in experiments:
        name = experiment.removeprefix("cast_").removesuffix("_crop").removesuffix("_fast").removesuffix("_evidence")
        page = (docs / "methods" / f"{name}.md").read_text()
        assert f"`{experiment}`" in page or re.search(rf"\+experiment={experiment}\s", page), experiment
        assert f"<!-- keys of {name} -->" in page
        assert f"]({name}.md)" in overview


def test_protocol_pages(repository, docs):
    overview = (docs / "protocols" / "index.md").read_text()
    protocols = [path.stem for path in (repository / "conf" / "protocol").glob("*.yaml")]
    assert "voc07" in protocols
    for name in protocols:
        page = (docs / "protocols" / f"{name}.md").read_text()
        assert f"castlit.evaluate +protocol={name} " in page
        assert f'--8<-- "conf/protocol/{name}.yaml"' in page
        assert f"]({name}.md)" in overview


@pytest.mark.parametrize(
    ("page", "module"),
    [
        ("voc07", "voc07.protocol"),
        ("backgrounds", "backgrounds.protocol"),
        ("voc_detection", "detection.voc_detection"),
        ("coco_segmentation", "detection.coco_segmentation"),
    ],
)
def test_published_figures(docs, page, module):
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (docs / "protocols" / f"{page}.md").read_text().splitlines()
        if line.startswith("|")
    ]
    header = next(row for row in rows if row[0] == "published, not run here")
    published = importlib.import_module(f"castlit.evaluation.{module}").PUBLISHED
    assert published
    for row in published:
        figures = [str(row.figures[name]) if name in row.figures else "" for name in header[1:-1]]
        assert [row.name, *figures, row.source] in rows
        assert set(row.figures) <= set(header)


def pages_with_commands(root):
    return [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").rglob("*.md"))]


def commands(text):
    """Program and arguments of every castlit command on a page."""
    for _, block in re.findall(r"^( *)```bash\n(.*?)^\1```", text, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            found = re.match(r" *(?:python|torchrun .*) -m castlit\.(\w+) +(.+)", line)
            if found:
                yield found[1], shlex.split(found[2].replace("…", "X"), comments=True)


def composable(words):
    """The overrides of one job: for a sweep, its first."""
    for word in words:
        override = OverridesParser.create().parse_override(quote_path(word))
        if override.is_sweep_override():
            first = next(iter(override.sweep_string_iterator()))
            yield f"{override.get_key_element()}={first}"
        else:
            yield quote_path(word)


def pytest_generate_tests(metafunc):
    if "page_with_commands" in metafunc.fixturenames:
        root = metafunc.config.rootpath
        pages = [page for page in pages_with_commands(root) if any(commands(page.read_text()))]
        metafunc.parametrize("page_with_commands", pages, ids=[str(page.relative_to(root)) for page in pages])


def test_every_command_composes(page_with_commands, repository):
    budgets = {f"budget={path.stem}" for path in (repository / "conf" / "budget").glob("*.yaml")}
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        for program, words in commands(page_with_commands.read_text()):
            if "--help" in words or "--config-dir" in words:  # the latter is run by test_your_own_method.py
                continue
            config = program
            if program == "bench":
                config = f"bench_{words.pop(0)}"
            if program == "compare":
                words = folders_as_runs(words)
            words = [word for word in words if word not in ("-m", "--multirun")]
            if "budget=laptop" not in budgets:
                words = [word for word in words if word != "budget=laptop"]
            compose(config, list(composable(words)))


def test_every_config_is_on_the_page_of_keys(repository, docs):
    marks = set(re.findall(r"^<!-- config (\S+) -->$", (docs / "keys.md").read_text(), re.MULTILINE))
    conf = repository / "conf"
    groups = {f"{path.parent.relative_to(conf)}/" for path in conf.glob("*/*.yaml")}
    assert marks == groups | {path.name for path in conf.glob("*.yaml")}


@pytest.fixture(scope="module")
def site_config(docs):
    """docs/site_config.py, which mkdocs imports by its path."""
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location("site_config", docs / "site_config.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_comments_fit_the_page(repository, site_config):
    """Comments of conf/ are broken where the page is narrower, and nothing else changes."""
    broken = 0
    for file in (repository / "conf").rglob("*.yaml"):
        text = file.read_text()
        shown = site_config.reflow(text)
        comments = [line for line in shown.splitlines() if line.lstrip().startswith("# ")]
        assert all(len(line) <= site_config.WIDTH for line in comments), file
        assert [word for word in shown.split() if word != "#"] == [word for word in text.split() if word != "#"]
        assert yaml.safe_load(shown) == yaml.safe_load(text)
        broken += shown != text.rstrip("\n")
    assert broken > 20
    assert site_config.reflow("a: 1\n# one two\n# three\n  # four five six\nb: 2", 9) == (
        "a: 1\n# one two\n# three\n  # four\n  # five\n  # six\nb: 2"
    )


def test_formulas_are_latex(docs):
    """Every formula on every page becomes MathML; what LaTeX does not know would stand there as it is."""
    pages = [page.read_text() for page in docs.rglob("*.md")]
    formulas = [
        formula
        for page in pages
        for formula in (
            *re.findall(r"^```math\n(.*?)^```$", page, re.DOTALL | re.MULTILINE),
            *re.findall(r"\$`(.+?)`\$", page),
        )
    ]
    assert formulas
    convert = pytest.importorskip("latex2mathml.converter").convert
    for formula in formulas:
        shown = convert(" ".join(formula.split()))
        assert "\\" not in shown, formula
        assert "&</mi>" not in shown, formula


def test_links_resolve(repository):
    """Every relative link of README, CONTRIBUTING and documentation leads to a file."""
    for page in pages_with_commands(repository):
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if not re.match(r"[a-z]+:", target):
                assert (page.parent / target).exists(), (page.name, target)


def test_commands_are_found(repository):
    found = {program for page in pages_with_commands(repository) for program, _ in commands(page.read_text())}
    assert {"train", "evaluate", "make_masks", "make_shards", "export", "study", "bench"} <= found


def texts(root):
    """Every string in castlit's code, with … for inserted values."""
    for file in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)


def test_troubleshooting_messages(repository, docs):
    page = (docs / "troubleshooting.md").read_text()
    quoted = [line for block in re.findall(r"```text\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    assert quoted
    known = [text for text in texts(repository / "src" / "castlit") if len(text) > 10]
    for line in quoted:
        parts = [part.strip() for part in line.split("…") if part.strip()]
        in_order = re.compile(".*".join(map(re.escape, parts)), re.DOTALL)
        assert any(in_order.search(text) for text in known), f"nothing in castlit says: {line}"


def test_project_files(repository):
    project = (repository / "pyproject.toml").read_text()
    citation = yaml.safe_load((repository / "CITATION.cff").read_text())
    assert f'\nversion = "{citation["version"]}"\n' in project
    assert f'\nlicense = "{citation["license"]}"\n' in project
    assert citation["preferred-citation"]["year"] == 2021
    hooks = yaml.safe_load((repository / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [hook["id"] for hook in hooks] == ["ruff", "ruff-format", "mypy", "codespell"]
    for form in ("bug", "feature", "question"):
        content = yaml.safe_load((repository / ".github" / "ISSUE_TEMPLATE" / f"{form}.yml").read_text())
        assert {"name", "description", "body"} <= content.keys()
