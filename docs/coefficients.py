"""Derive the constants of csrc/inner/math.hpp and print them; only the layout differs there.

Needs mpmath. Each polynomial is the weighted minimax fit (Remez exchange) of one function on one
interval, its coefficients then rounded to the format. The error printed is that after rounding.
"""

import re
from collections.abc import Callable

import mpmath as mp

mp.mp.prec = 300
Function = Callable[[mp.mpf], mp.mpf]


def remez(f: Function, weight: Function, n: int, low: mp.mpf, high: mp.mpf) -> list[mp.mpf]:
    """The n coefficients, lowest first, that minimise max |weight * (f - polynomial)|."""
    middle, half = (low + high) / 2, (high - low) / 2
    points = [middle - half * mp.cos(mp.pi * (2 * i + 1) / (2 * n + 2)) for i in range(n + 1)]
    grid = [middle - half * mp.cos(mp.pi * (2 * i + 1) / (80 * n)) for i in range(40 * n)]
    wanted = [(f(x), weight(x)) for x in grid]
    for _ in range(12):
        rows = [[x**k for k in range(n)] + [(-1) ** i / weight(x)] for i, x in enumerate(points)]
        c = list(mp.lu_solve(mp.matrix(rows), mp.matrix([f(x) for x in points])))[:n]
        errors = [w * (y - mp.polyval(c[::-1], x)) for x, (y, w) in zip(grid, wanted, strict=True)]
        peaks: list[int] = []  # of each run of one sign, where the error is largest
        for i, error in enumerate(errors):
            if not peaks or (error > 0) != (errors[peaks[-1]] > 0):
                peaks.append(i)
            elif abs(error) > abs(errors[peaks[-1]]):
                peaks[-1] = i
        while len(peaks) > n + 1:
            peaks.pop(0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1)
        if len(peaks) <= n:
            break
        points = [grid[i] for i in peaks]
    return c


def rounded(x: mp.mpf, bits: int) -> mp.mpf:
    with mp.workprec(bits):
        return +x


def fit(
    f: Function, weight: Function, n: int, low: mp.mpf, high: mp.mpf, bits: int
) -> list[mp.mpf]:
    """The n coefficients, lowest first, each a number of `bits` bits."""
    c = [rounded(x, bits) for x in remez(f, weight, n, low, high)]
    points = [low + (high - low) * (mp.mpf(i) + mp.mpf(1) / 7) / 400 for i in range(400)]
    worst = max(abs(weight(x) * (f(x) - mp.polyval(c[::-1], x))) for x in points)
    print(f"// largest relative error 2^{float(mp.log(worst, 2)):.1f}")
    return c


def show(name: str, values: list[mp.mpf], suffix: str) -> None:
    texts = [re.sub(r"\.?0*p", "p", float(v).hex()) + suffix for v in values]
    if len(texts) > 1:
        name, texts = name + "[]", ["{" + ", ".join(texts) + "}"]
    print(f"static constexpr {'float' if suffix else 'double'} {name} = {texts[0]};")


def constants(bits: int, exponent_bits: int, n: int, suffix: str) -> None:
    ln2 = mp.log(2)
    # n * ln2_high is exact without fma: |n| takes exponent_bits bits, ln2_high the others.
    ln2_high = rounded(ln2, bits - exponent_bits)
    show("log2_e", [rounded(1 / ln2, bits)], suffix)
    show("ln2_high", [ln2_high], suffix)
    show("ln2_low", [rounded(ln2 - ln2_high, bits)], suffix)

    edge = ln2 / 2 * (1 + mp.mpf(2) ** -14)  # rounding of x log2(e) moves the edges a little

    def second(r: mp.mpf) -> mp.mpf:
        return mp.fsum(r**k / mp.factorial(k + 2) for k in range(50))

    def weight(r: mp.mpf) -> mp.mpf:  # r^2 / (e^r - 1), kept from 0, where Remez would fail
        return mp.hypot(r, edge / 8) * abs(r / mp.expm1(r))

    print("// (e^r - 1 - r) / r^2, |r| <= ln(2)/2, relative to e^r - 1")
    show("exp_second", fit(second, weight, n, -edge, edge, bits), suffix)
    print("// 1 / (1 + e), 0 <= e <= 1; exact at 0")
    plus = fit(lambda e: -1 / (1 + e), lambda e: e * (1 + e), 5, mp.mpf(0), mp.mpf(1), bits)
    show("reciprocal_plus", [mp.mpf(1), *plus], suffix)
    print("// 1 / (2 - m), 0 <= m <= 1; exact at 0")
    minus = fit(lambda m: 1 / (4 - 2 * m), lambda m: m * (2 - m), 5, mp.mpf(0), mp.mpf(1), bits)
    show("reciprocal_minus", [mp.mpf(0.5), *minus], suffix)


if __name__ == "__main__":
    print("// float")
    constants(24, 8, 5, "F")
    print("// double")
    constants(53, 11, 11, "")
