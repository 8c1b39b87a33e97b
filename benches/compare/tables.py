"""The comparison as Markdown."""

import datetime
import statistics
import textwrap

from contacts import BATCH, REAL, USUAL
from ratios import middle
from rounds import AGAIN, BATCHES, BY_H2LOAD, LONG, SHAPES, SLICE
from servers import Aio, Bare, Go, Nginx, Service

REFERENCE = Bare.name
NAMES = (REFERENCE, AGAIN, Service.name, Go.name, Aio.name, Nginx.name)
# Columns of text.
WIDTH = 120
CALLS_A_SECOND = "Calls a second"
# The compared values: title, value of a slice, and format.
QUANTITIES = (
    (CALLS_A_SECOND, lambda result: result["calls"] / result["seconds"], "{:,.0f}"),
    ("CPU per call", lambda result: result["cpu_us"], "{:.1f} us"),
    ("Half of the calls take at most (p50)", lambda result: result["p50_us"], "{:,.0f} us"),
    ("99 of 100 calls take at most (p99)", lambda result: result["p99_us"], "{:,.0f} us"),
)


def measured(results):
    rounds = len(results[SHAPES[0].name][REFERENCE])
    return (
        f"Measured on {datetime.date.today()} by `make bench-speed`: {rounds} rounds of slices of {SLICE} s, every "
        f"server on the same core, the load on another; ratios to {REFERENCE} in the same round, as the median and the "
        "interval that holds it in 95 of 100 cases."
    )


def speed(results, filled, counted, writes):
    text = f"{measured(results)} Under {REFERENCE} stands what it did itself."
    parts = [textwrap.fill(text, WIDTH)]
    parts += [f"{title}:\n\n{compared(results, title, *how)}" for title, *how in QUANTITIES]
    usual = f"beside those of {USUAL.reply_bytes} bytes, 4 x 32"
    parts.append(f"Longer answers of {Service.name}, {usual}:\n\n{longer(results)}")
    parts.append(f"Contacts of batches of {BATCH} hits, beside single hits, 4 x 32:\n\n{batched(results)}")
    parts.append(f"What hardly varies, for each call:\n\n{counts(results, filled, counted, writes)}")
    return "\n\n".join(parts)


def compared(results, title, value, form):
    shapes = [shape for shape in (*SHAPES, BY_H2LOAD) if shape.closed or title != CALLS_A_SECOND]
    rows = []
    for shape in shapes:
        of = results[shape.name]
        row = [shape.name, form.format(statistics.median(map(value, of[REFERENCE].values())))]
        row += [str(ratio(of[name], of[REFERENCE], value)) if name in of else "" for name in NAMES[1:]]
        rows.append(row)
    return table(["", *NAMES], rows)


def ratio(ours, reference, value):
    return middle([value(result) / value(reference[number]) for number, result in ours.items()])


def longer(results):
    usual = results[SHAPES[0].name][Service.name]
    rows = []
    for shape in LONG:
        of = results[shape.name][Service.name]
        rows.append([shape.name, *(str(ratio(of, usual, value)) for _, value, _ in QUANTITIES[:2])])
    return table(["", *(title for title, *_ in QUANTITIES[:2])], rows)


def batched(results):
    single, of = results[SHAPES[0].name][Service.name], results[BATCHES.name][Service.name]
    titles = ("Contacts a second", QUANTITIES[1][0].replace("call", "contact"))
    ratios = [str(ratio(of, single, value)) for _, value, _ in QUANTITIES[:2]]
    return table(["", *titles], [[BATCHES.name, *ratios]])


def counts(results, filled, counted, writes):
    bare, service, plain, miss, batch = counted
    hit_us = statistics.median(result["cpu_us"] for result in results[SHAPES[1].name][Service.name].values())
    rows = [
        ["writes to sockets, 4 x 32", *over(writes[REFERENCE], writes[USUAL.reply_bytes], "{:.3f}")],
        [f"... of {REAL.reply_bytes} bytes", "", f"{writes[REAL.reply_bytes]:.3f}", ""],
        ["allocations", *over(bare.alone.allocations, service.alone.allocations, "{:.1f}")],
        ["... of a miss", "", f"{miss.allocations:.1f}", ""],
        [f"... of a contact in a batch of {BATCH} hits", "", f"{batch.allocations:.1f}", ""],
        ["instructions, one call at a time", *over(bare.alone.instructions, service.alone.instructions, "{:,.0f}")],
        ["... twenty at a time", *over(bare.together.instructions, service.together.instructions, "{:,.0f}")],
        ["... with neither callers file nor admin port", "", f"{plain.together.instructions:,.0f}", ""],
        ["... of a miss, one at a time", "", f"{miss.instructions:,.0f}", ""],
        [f"... of a contact in a batch of {BATCH} hits", "", f"{batch.instructions:,.0f}", ""],
    ]
    production = service.together.instructions / plain.together.instructions
    text = (
        f"With callers file and admin port a hit takes {production:.3f} x the instructions that it takes without; what "
        "counts, sheds and sets deadlines cannot be switched off. A miss takes "
        f"{miss.instructions / service.alone.instructions:.1f} x the instructions of a hit, and {filled.cpu_us:.0f} us "
        f"of CPU where a hit takes {hit_us:.0f} us, with 64 in progress on one connection: the mean of the "
        f"{filled.entries:,} that filled the cache."
    )
    return f"{table(['', REFERENCE, Service.name, 'ratio'], rows)}\n\n{textwrap.fill(text, WIDTH)}"


def over(reference, ours, form):
    return [form.format(reference), form.format(ours), f"{ours / reference:.2f}"]


def table(head, rows):
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
