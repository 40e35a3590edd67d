"""`weaklink link`: create, look at, change and remove the links of a running emulator."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence

from semantic_codec.errors import InvalidRequest, Unavailable, WeaklinkError

DEFAULT_CONTROL = "127.0.0.1:8474"
CHANNEL_HELP = "a channel as NAME:SETTING=VALUE,..., for example bsc:ber=0.01, or as a JSON object; repeat it for more, in this order"


class Refused(WeaklinkError):
    """The emulator's own words; they already say what is allowed and how to fix it."""

    def __init__(self, message: str):
        Exception.__init__(self, message)


def call(control: str, method: str, path: str, body: dict | None = None, timeout_s: float = 10.0) -> object:
    """One request to the control API at `control` (host:port). Its JSON, or None for an empty answer.

    Refused: the emulator said no. Unavailable: nothing answers there.
    """
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    # The emulator is close by; a proxy of the environment would only be in the way.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        request = urllib.request.Request(f"http://{control}{path}", data, headers, method=method)
        with opener.open(request, timeout=timeout_s) as response:
            text = response.read()
        return json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        with error:
            raise Refused(_message(error)) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Unavailable(
            f"no emulator answers at {control!r} ({getattr(error, 'reason', error)})",
            allowed="the control address that 'weaklink emulate' printed",
            fix="start it, or name its address with --control or WEAKLINK_CONTROL",
        ) from None


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return json.load(error)["error"]["message"]
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        return f"HTTP status {error.code} from something that is no emulator"


def parse_channel(text: str) -> dict[str, object]:
    """The JSON form of NAME:SETTING=VALUE,...; values that are JSON (numbers, true) become that, others stay text.

    >>> parse_channel("delay:delay_ms=20,distribution=normal")
    {'channel': 'delay', 'delay_ms': 20, 'distribution': 'normal'}
    """
    if text.startswith("{"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise InvalidRequest(f"channel {text!r} is no JSON ({error})", allowed=CHANNEL_HELP, fix="correct it")
    name, _, settings = text.partition(":")
    channel: dict[str, object] = {"channel": name}
    for setting in filter(None, settings.split(",")):
        key, equals, value = setting.partition("=")
        if not equals:
            fix = f"write {key}=VALUE; where a value has commas, write JSON: '{{\"channel\": \"{name}\", ...}}'"
            raise InvalidRequest(f"setting {setting!r} has no value", allowed=CHANNEL_HELP, fix=fix)
        try:
            channel[key] = json.loads(value)
        except ValueError:
            channel[key] = value
    return channel


def format_channels(channels: list[dict]) -> str:
    """Channels as `parse_channel` reads them, "-" for none."""
    texts = []
    for channel in channels:
        settings = [f"{key}={_short(value)}" for key, value in channel.items() if key != "channel"]
        texts.append(channel["channel"] + (":" + ",".join(settings) if settings else ""))
    return " ".join(texts) or "-"


def _short(value: object) -> str:
    if isinstance(value, list):
        return f"[{len(value)} rows]"
    return f"{value:g}" if isinstance(value, float) else json.dumps(value).strip('"')


def _ber(stats: dict) -> str:
    return "-" if stats["true_ber"] is None else f"{stats['true_ber']:.3g}"


def print_links(links: list[dict]) -> None:
    """One line per link."""
    rows = [("NAME", "KIND", "LISTEN", "UPSTREAM", "UP", "DOWN", "FRAMES UP", "TRUE BER UP")]
    for link in links:
        up = link["stats"]["up"]
        channels = format_channels(link["up"]), format_channels(link["down"])
        entered = sum(count for outcome, count in up["frames"].items() if outcome != "duplicate")
        rows.append(
            (link["name"], link["kind"], link["listen"], link["upstream"], *channels, str(entered), _ber(up))
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_link(link: dict) -> None:
    """One link, its counts by direction and channel."""
    print(f"{link['name']}  {link['kind']}  {link['listen']} -> {link['upstream']}  seed {link['seed']}")
    for direction in ("up", "down"):
        stats = link["stats"][direction]
        frames = ", ".join(f"{count} {outcome}" for outcome, count in stats["frames"].items()) or "none"
        print(f"  {direction}: {format_channels(link[direction])}")
        print(f"    frames: {frames};  bits: {stats['bits']}, wrong: {stats['bits_flipped']}, BER: {_ber(stats)}")
        for channel in stats["channels"]:
            counts = ", ".join(f"{key} {_short(value)}" for key, value in channel.items() if key != "channel")
            print(f"    {channel['channel']}: {counts or 'nothing yet'}")
    devices, waiting, errors = (link["stats"][key] for key in ("devices", "in_flight", "send_errors"))
    print(f"  devices: {devices},  on their way: {waiting},  sends that failed: {errors}")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="weaklink link", description="Control the links of a running emulator.")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--control",
        default=os.environ.get("WEAKLINK_CONTROL", DEFAULT_CONTROL),
        help=f"control address of the emulator (default: WEAKLINK_CONTROL, else {DEFAULT_CONTROL})",
    )
    shared.add_argument("--json", action="store_true", help="print the API's JSON instead of text")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, text: str) -> argparse.ArgumentParser:
        return verbs.add_parser(name, parents=[shared], help=text, description=text)

    create = verb("create", "Create a link; prints the address that it listens on.")
    create.add_argument("name")
    create.add_argument("--kind", choices=("udp", "serial", "grpc"), default="udp", help="default: %(default)s")
    create.add_argument("--listen", default="127.0.0.1:0", help="host:port, port 0 for any (default: %(default)s)")
    create.add_argument("--upstream", required=True, help="host:port of the edge")
    create.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    verb("list", "List all links.")
    verb("show", "Show one link with its counts.").add_argument("name")
    change = verb("set", "Change channels or seed of a running link; what is not named stays.")
    change.add_argument("name")
    change.add_argument("--seed", type=int)
    for parser_with_channels in (create, change):
        for direction, text in (("up", "from devices to the edge"), ("down", "from the edge to devices")):
            parser_with_channels.add_argument(
                f"--{direction}", action="append", metavar="CHANNEL", help=f"{text}: {CHANNEL_HELP}; 'none' for none"
            )
    verb("delete", "Delete a link and close its port.").add_argument("name")
    verb("reset", "Start again at the seed with all counts 0: one link, or all.").add_argument("name", nargs="?")
    return parser


def _channels(texts: list[str]) -> list[dict]:
    return [] if texts == ["none"] else [parse_channel(text) for text in texts]


def run(args: argparse.Namespace) -> object:
    """Make the call that `args` ask for; the link or links it answers with, or None."""
    control = args.control.removeprefix("http://").rstrip("/")
    path = f"/links/{urllib.parse.quote(args.name, safe='')}" if getattr(args, "name", None) else "/links"
    if args.verb == "create":
        body = {key: getattr(args, key) for key in ("name", "kind", "listen", "upstream", "seed")}
        body |= {"up": _channels(args.up or []), "down": _channels(args.down or [])}
        return call(control, "POST", "/links", body)
    if args.verb == "set":
        body = {} if args.seed is None else {"seed": args.seed}
        body |= {key: _channels(getattr(args, key)) for key in ("up", "down") if getattr(args, key)}
        if not body:
            raise InvalidRequest("nothing to change", allowed="--up, --down, --seed", fix="name at least one of them")
        return call(control, "PATCH", path, body)
    if args.verb == "delete":
        return call(control, "DELETE", path)
    if args.verb == "reset":
        return call(control, "POST", f"{path}/reset" if args.name else "/reset")
    return call(control, "GET", path)


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    try:
        answer = run(args)
    except WeaklinkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(answer, indent=2))
    elif isinstance(answer, list):
        print_links(answer)
    elif answer is None:
        print(f"{args.verb}: {getattr(args, 'name', None) or 'all links'}")
    else:
        print_link(answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
