"""The house keeps its shape: size caps, pure crates, vendored code, no addresses of registries."""

import ast
import hashlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE_CAP, TEST_FILE_CAP, FUNCTION_CAP = 600, 1000, 80
SKIPPED = {"target", ".venv", "node_modules", "vendor", ".git", ".data"}
# What a pure crate may not name: the standard library's doors to the outside.
IMPURE = re.compile(
    r"\b(?:std::)?(?:Instant|SystemTime)::now\b|std::net::(?:Udp|Tcp)|std::(?:thread|fs|process|env)\b|\btokio\b|\bpyo3\b"
)
RUST_FUNCTION = re.compile(r"^(\s*)(?:pub(?:\([^)]*\))? )?(?:const |async |unsafe |extern \"C\" )*fn (\w+)")


def files(*suffixes: str, under: str = ".") -> list[Path]:
    """Every source file below a folder, without what is built or vendored."""
    return sorted(
        path
        for path in (ROOT / under).rglob("*")
        if path.suffix in suffixes and not SKIPPED & set(path.relative_to(ROOT).parts)
    )


def is_test(path: Path) -> bool:
    """Tests and benches may be longer."""
    return bool({"tests", "benches", "examples"} & set(path.relative_to(ROOT).parts))


def test_files_stay_under_their_cap() -> None:
    too_long = {
        str(path.relative_to(ROOT)): lines
        for path in files(".rs", ".py", ".js", ".css")
        if (lines := path.read_text().count("\n")) > (TEST_FILE_CAP if is_test(path) else FILE_CAP)
    }
    assert not too_long, f"split by state or concern: {too_long}"


def python_functions(path: Path) -> list[tuple[str, int]]:
    return [
        (node.name, (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def rust_functions(path: Path) -> list[tuple[str, int]]:
    """Length of each fn with a body, by the closing brace at its own indentation (rustfmt guarantees it)."""
    found, lines = [], path.read_text().splitlines()
    for start, line in enumerate(lines):
        if not (match := RUST_FUNCTION.match(line)) or line.rstrip().endswith(";"):
            continue
        if line.rstrip().endswith("}"):
            found.append((match[2], 1))
            continue
        end = next((i for i in range(start, len(lines)) if lines[i] == f"{match[1]}}}"), start)
        found.append((match[2], end - start + 1))
    return found


SOURCES = [path for path in files(".py", ".rs") if not is_test(path)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_stay_under_their_cap(path: Path) -> None:
    functions = python_functions(path) if path.suffix == ".py" else rust_functions(path)
    too_long = {name: lines for name, lines in functions if lines > FUNCTION_CAP}
    assert not too_long


def test_the_measure_of_functions_sees_them() -> None:
    """The regular expression above must find functions, or the cap means nothing."""
    sources = files(".rs", under="rust")
    counted = sum(len(rust_functions(path)) for path in sources)
    named = re.compile(r"^\s*(?:pub(?:\([^)]*\))? )?fn \w+", re.MULTILINE)
    declared = sum(len(named.findall(path.read_text())) for path in sources)
    assert counted > 0.8 * declared


@pytest.mark.parametrize("crate", ["sip", "media"])
def test_pure_crates_import_nothing_impure(crate: str) -> None:
    """What clippy bans, named once more in plain text: it also sees code behind a `cfg`."""
    for path in files(".rs", under=f"rust/{crate}/src"):
        code = re.sub(r"//.*", "", path.read_text().split("#[cfg(test)]")[0])
        assert not IMPURE.findall(code), path


def test_only_the_engines_face_imports_the_extension() -> None:
    """import-linter cannot see a compiled module, so its users are counted here."""
    users = {
        str(path.relative_to(ROOT / "python/telephony_gateway"))
        for path in files(".py", under="python")
        if re.search(r"^\s*(?:from|import) .*\b_core\b", path.read_text(), re.MULTILINE)
    }
    assert users <= {"engine.py", "errors.py"}


def test_unsafe_stays_in_its_rooms() -> None:
    """`unsafe` lives in the engine's socket file and the codec's foreign functions only."""
    allowed = {"rust/engine/src/socket.rs", "rust/media/src/codec/opus.rs"}
    holders = {
        str(path.relative_to(ROOT))
        for path in files(".rs", under="rust")
        if re.search(r"\bunsafe\b(?! code| Rust)", re.sub(r"//.*", "", path.read_text()))
    }
    assert holders <= allowed


def test_vendored_code_is_unchanged() -> None:
    vendor = ROOT / "python/telephony_gateway/web/assets/vendor"
    for line in (vendor / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == digest


def test_lock_files_name_no_registry() -> None:
    """Names, versions and hashes only: no download address stands in a lock file."""
    for name in ("requirements.lock", "tests/web/package-lock.json"):
        assert not re.search(r"https?://|git\+|--index-url|--find-links", (ROOT / name).read_text()), name


def test_every_issue_is_finished_in_the_code() -> None:
    """No promise to do it later."""
    marker = re.compile(r"\b(?:TODO|FIXME|XXX)\b|\b(?:todo|unimplemented)!\(")
    here = Path(__file__)
    assert not [str(p) for p in files(".rs", ".py", ".js") if p != here and marker.search(p.read_text())]
