"""What a capture file says beside its packets."""

from __future__ import annotations

from rawkit.tools.capturefile import ClockWatch

SECOND = 1_000_000_000


class Clocks:
    """A wall clock and a steady one, both moved by hand."""

    wall = 1_700_000_000 * SECOND
    steady = 5 * SECOND
    pause = 0  # that the next look at the wall clock takes

    def wall_ns(self) -> int:
        self.steady += self.pause
        return self.wall

    def pass_by(self, steady: int, wall: int) -> None:
        self.steady += steady
        self.wall += wall


def test_a_clock_that_is_set_is_noticed_and_one_that_is_slewed_is_not() -> None:
    clocks = Clocks()
    watch = ClockWatch(clocks.wall_ns, lambda: clocks.steady)
    for _ in range(1000):  # 500 ppm, the most that the kernel slews by: half a second in all
        clocks.pass_by(SECOND, SECOND + 500_000)
        watch.look()
    assert watch.remarks() == []
    clocks.pass_by(SECOND, -2 * SECOND)
    watch.look()
    clocks.pass_by(SECOND, 3601 * SECOND)
    watch.look()
    watch.look()
    assert watch.remarks() == [
        "the clock was set back 3.0 s meanwhile",
        "the clock was set forward 3600.0 s meanwhile",
    ]


def test_standing_still_between_two_clocks_is_no_jump() -> None:
    clocks = Clocks()
    watch = ClockWatch(clocks.wall_ns, lambda: clocks.steady)
    watch.look()
    clocks.pause = SECOND
    watch.look()
    clocks.pass_by(0, SECOND)  # the wall clock went on as well
    clocks.pause = 0
    watch.look()
    assert watch.jumps == []
