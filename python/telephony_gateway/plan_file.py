"""What the commands `check` and `apply` do with a gateway.toml: read it, send it to a running gateway."""

import json
import os
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final

from telephony_gateway.calls.plan import Plan, read_plan
from telephony_gateway.config import environment, load_tables
from telephony_gateway.errors import ConfigError

TIMEOUT: Final = 15.0
"""Seconds that the gateway may take to answer."""
MAX_ANSWER: Final = 4 << 20
_URL = re.compile(r"https?://[^\s]+")
SIGNS: Final = (("created", "+"), ("changed", "~"), ("removed", "-"))


class ApplyFailed(Exception):
    """The gateway did not take the file; the message says why."""


def read_file(path: Path) -> tuple[Plan, list[str], list[str]]:
    """The plan, everything that is wrong with it, and secrets that this environment lacks (the gateway's may
    have them).
    """
    try:
        tables = load_tables(path)
    except ConfigError as error:
        return Plan(), [error.message.removeprefix("GATEWAY_CONFIG: ")], []
    plan, faults = read_plan(tables, None)
    _, with_secrets = read_plan(tables, environment())
    lacking = [fault for fault in with_secrets if fault not in faults]
    return plan, [str(fault) for fault in faults], [f"note: {fault}" for fault in lacking]


def summary(plan: Plan) -> str:
    """How much of what there is."""
    counts = (("trunk", plan.trunks), ("route", plan.routes), ("user", plan.users))
    return ", ".join(f"{len(rows)} {word}{'' if len(rows) == 1 else 's'}" for word, rows in counts)


def send_file(path: Path, url: str, api_key_env: str, *, dry_run: bool) -> list[str]:
    """Send the file; returns what changed (or would), a line each. `ApplyFailed` when nothing did."""
    if not _URL.fullmatch(url):
        raise ApplyFailed(f"--url: must begin with http:// or https://, not {url!r}")
    key = os.environ.get(api_key_env, "").split(",")[0].strip()
    request = urllib.request.Request(  # noqa: S310 - the scheme was checked
        f"{url.rstrip('/')}/api/v1/plan?dry_run={json.dumps(dry_run)}",
        data=json.dumps(load_tables(path)).encode(),
        method="PUT",
        headers={"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {}),
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310
            return _diff_lines(json.loads(response.read(MAX_ANSWER)))
    except urllib.error.HTTPError as error:
        raise ApplyFailed(_refusal(error)) from None
    except (OSError, ValueError) as error:
        raise ApplyFailed(f"{url} does not answer as a gateway: {error}") from None


def _diff_lines(diff: dict[str, Any]) -> list[str]:
    lines = [
        f"{sign} {kind} {name}"
        for kind in ("trunk", "route")
        for word, sign in SIGNS
        for name in diff[f"{kind}s"][word]
    ]
    if diff["reordered"]:
        lines.append("~ the order of the routes")
    end = "nothing was changed: --dry-run" if diff["dry_run"] else "applied"
    return [*lines, end if lines else "nothing to change"]


def _refusal(error: urllib.error.HTTPError) -> str:
    try:
        body = json.loads(error.read(MAX_ANSWER))
        faults = [f"{fault['path']}: {fault['message']}" for fault in body.get("errors", [])]
        return "\n".join([f"refused ({error.code}): {body['detail']}", *faults])
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"refused ({error.code}) by something that is no gateway"
