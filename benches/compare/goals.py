"""The goals for the cost of a hit, as ratios to the bare tonic server, and the measured ratios."""

import datetime
import statistics
import textwrap

from contacts import BATCH, REAL, STREAM_CONTACTS, STREAM_HITS, USUAL
from rounds import BATCHES, LONG, SHAPES
from servers import Bare, Service
from tables import CALLS_A_SECOND, QUANTITIES, WIDTH, ratio, table

WIDE, DEEP, SINGLE, _, BURSTS = SHAPES
CPU = "CPU per call"


def beside(results, shape, title):
    """The ratio of the service to the bare server, with its interval."""
    values = {title: value for title, value, _ in QUANTITIES}
    return ratio(results[shape.name][Service.name], results[shape.name][Bare.name], values[title])


def headline(results, counted):
    """Three lines for the README: speed, CPU and allocations of a cached answer."""
    bare, service, *_ = counted
    lines = [
        f"- {shape.name}: {beside(results, shape, CALLS_A_SECOND)} x the calls a second, "
        f"{beside(results, shape, CPU)} x the CPU per call"
        for shape in (WIDE, DEEP)
    ]
    lines.append(
        f"- {service.alone.allocations:.0f} allocations for a call, where {Bare.name} makes {bare.alone.allocations:.0f}"
    )
    intro = (
        f"Measured on {datetime.date.today()} by `make bench-speed`, a cached answer beside a {Bare.name} server on the "
        "same core:"
    )
    return "\n\n".join([textwrap.fill(intro, WIDTH), "\n".join(lines)])


def goals(results, counted, writes, arrivals, second_sync):
    """A table of the requirements, the goals and the measurements."""
    values = {title: value for title, value, _ in QUANTITIES}
    bare, service, plain, _, batch = counted

    def longer(title):
        usual = results[WIDE.name][Service.name]
        ratios = [ratio(results[shape.name][Service.name], usual, values[title]) for shape in LONG]
        return max(ratios, key=lambda middle: middle.value)

    production = service.together.instructions / plain.together.instructions
    lengths = f"{LONG[0].name} to {LONG[-1].name} against {USUAL.reply_bytes}"
    batched = ratio(results[BATCHES.name][Service.name], results[WIDE.name][Service.name], values[CPU])
    instructions = batch.instructions / service.together.instructions
    rows = [
        [f"calls a second, {WIDE.name}", f"{beside(results, WIDE, CALLS_A_SECOND)} x", "1.9 x", "2.3 x"],
        [f"calls a second, {DEEP.name}", f"{beside(results, DEEP, CALLS_A_SECOND)} x", "1.9 x", "2.3 x"],
        [f"CPU per call, {WIDE.name}", f"{beside(results, WIDE, CPU)} x", "0.52 x", "0.43 x"],
        [f"CPU per call, {DEEP.name}", f"{beside(results, DEEP, CPU)} x", "0.52 x", "0.43 x"],
        ["CPU per call, 32 x 1", f"{beside(results, SINGLE, CPU)} x", "1.00 x", "0.90 x"],
        ["CPU per call, bursts of 20", f"{beside(results, BURSTS, CPU)} x", "0.80 x", "0.65 x"],
        ["instructions, callers file and admin port on against off", f"{production:.3f} x", "1.06 x", "1.03 x"],
        [f"CPU of answers of {lengths}", f"{longer(CPU)} x", "1.10 x", "1.05 x"],
        ["writes to sockets for an answer, 4 x 32", f"{writes[USUAL.reply_bytes]:.3f}", "0.05", "0.035"],
        [
            f"allocations for a hit ({Bare.name}: {bare.alone.allocations:.0f})",
            f"{service.alone.allocations:.0f}",
            "24",
            "21",
        ],
        [f"CPU of a contact in a batch of {BATCH} hits against a hit, 4 x 32", f"{batched} x", "0.35 x", "0.20 x"],
        ["... instructions, twenty calls at a time", f"{instructions:.2f} x", "0.35 x", "0.20 x"],
        [
            f"{STREAM_HITS:,} hits of a stream of {STREAM_CONTACTS:,} have arrived after",
            f"{statistics.median(arrivals):.3f} s",
            "1 s",
            "0.2 s",
        ],
        [f"a sync of {STREAM_CONTACTS:,} contacts directly after another", f"{second_sync:.2f} s", "2 s", ""],
    ]
    text = f"Answers of {REAL.reply_bytes} bytes, as real links make them, take {writes[REAL.reply_bytes]:.3f} writes."
    return f"The goals, beside {Bare.name}:\n\n{table(['', 'measured', 'must', 'aim'], rows)}\n\n{textwrap.fill(text, WIDTH)}"
