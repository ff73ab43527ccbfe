"""A board in one table: what a report says of it under `host.device`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeattn.board import jetson, power
from edgeattn.board.clocks import clocks, held
from edgeattn.board.heat import temperatures
from edgeattn.board.memory import memory_mb
from edgeattn.board.power_mode import power_mode


def describe_device(root: Path = jetson.ROOT) -> dict[str, Any] | None:
    """The Jetson below `root`, as plain values for JSON; None where this is none.

    `model`, `module`, `l4t`, `jetpack`, `power_mode` and its number, `clocks_held` (as `jetson_clocks` does),
    `clocks_mhz` now and `clocks_max_mhz` allowed, `temperatures_c`, `memory_mb`, `power_from` (what measures its
    power). What the board does not tell is None.
    """
    release, module = jetson.l4t(root), jetson.module_id(root)
    if release is None and module is None:
        return None
    mode, meter, found = power_mode(root), power.meter(root), clocks(root)
    return {
        "model": jetson.model(root),
        "module": module,
        "l4t": release,
        "jetpack": jetson.jetpack(release),
        "power_mode": mode and mode.name,
        "power_mode_number": mode and mode.number,
        "clocks_held": held(root),
        "clocks_mhz": {name: clock.mhz for name, clock in found.items() if clock.mhz is not None} or None,
        "clocks_max_mhz": {name: clock.most_mhz for name, clock in found.items() if clock.most_mhz is not None} or None,
        "temperatures_c": temperatures(root) or None,
        "memory_mb": memory_mb(root),
        "power_from": meter and meter.source,
    }


def settings(device: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Of what `describe_device` found what somebody set, and every latency depends on; None where there is no board."""
    if device is None:
        return None
    return {name: device[name] for name in ("power_mode", "clocks_held", "clocks_max_mhz")}


def while_building(before: Mapping[str, Any] | None, telemetry: Mapping[str, Any]) -> list[str]:
    """What may have misled the timing of kernels, in sentences: `before` as `describe_device` found it, `telemetry` the
    fields of `Telemetry`."""
    found = []
    if before is not None and before["clocks_held"] is False:
        found.append(
            "The clocks were free to change while kernels were timed; before building with --force, hold them with: "
            "sudo jetson_clocks."
        )
    if telemetry["throttled"]:
        causes = ", ".join([*telemetry["throttle_events"], *telemetry["limited_by"]])
        found.append(
            f"The machine was slowed down while it built ({causes}), which may have misled the timing of kernels; cool "
            "it or power it better, and build again with --force."
        )
    return found


def set_otherwise(then: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> str | None:
    """That an engine's kernels were chosen on a board that was set otherwise (`settings`); None where it was not, or
    where one of the two is not known."""
    if not then or not now or dict(then) == dict(now):
        return None
    if then.get("power_mode") != now["power_mode"]:
        what = f"in power mode {then.get('power_mode') or 'unknown'}, now it is {now['power_mode'] or 'unknown'}"
    else:
        what = f"with {_held(then)}, now it has {_held(now)}"
        if then.get("clocks_held") == now["clocks_held"]:
            what = "with other highest clocks than it has now"
    return f"The board was {what}: other kernels may be the fastest; build again with --force."


def meanwhile_in_words(meanwhile: Mapping[str, Any]) -> str:
    """What a board did while engines were loaded and timed, in one line.

    `meanwhile`: `before` and `after` as `describe_device` found them, and the fields of `Telemetry`.
    """
    before, after = meanwhile["before"], meanwhile["after"] or {}
    mode = before["power_mode"] or "unknown"
    if after.get("power_mode") not in (None, before["power_mode"]):
        mode += f", then {after['power_mode']}"
    hottest = max((meanwhile["hottest_c"] or {}).items(), key=lambda zone: zone[1], default=None)
    heat = "heat unknown" if hottest is None else f"at most {hottest[1]:.1f} °C ({hottest[0]})"
    causes = [*(f"{name} {count} times" for name, count in meanwhile["throttle_events"].items())]
    causes += meanwhile["limited_by"]
    slowed = {True: f"slowed down ({', '.join(causes)})", False: "not slowed down"}.get(
        meanwhile["throttled"], "whether it was slowed down is unknown"
    )
    return f"while engines were loaded and timed the board was in power mode {mode}, {_held(before)}, {heat}, {slowed}"


def _held(device: Mapping[str, Any]) -> str:
    words: dict[Any, str] = {True: "clocks held", False: "clocks free"}
    return words.get(device.get("clocks_held"), "clocks unknown")


def in_words(device: Mapping[str, Any]) -> str:
    """What `describe_device` found, in one line for a person."""
    release = f"JetPack {device['jetpack'] or 'unknown'} (L4T {device['l4t'] or 'unknown'})"
    mode = f"power mode {device['power_mode'] or 'unknown'}, {_held(device)}"
    return f"{device['model'] or device['module']}, {release}, {mode}"
