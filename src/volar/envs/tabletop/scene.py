"""The physical parts of `tabletop` as MuJoCo's XML: a Cartesian gripper over a table, and things to put on it.

No tasks, no success, no randomness.
"""

from collections.abc import Sequence

TIMESTEP = 0.005  # seconds; ten of them make a control step
FINGER_RANGE = 0.03  # metres that each finger opens
PUCK_RADIUS, PUCK_HEIGHT = 0.025, 0.03
CUBE_SIDE = 0.024
PEG_SIDE, PEG_HEIGHT = 0.024, 0.08
FIXTURE_HEIGHT, CLEARANCE = 0.04, 0.0015  # clearance: on each side of the centred peg
PILLAR_RADIUS, PILLAR_HEIGHT = 0.03, 0.14
BOWL_RADIUS, BOWL_HEIGHT = 0.05, 0.025
COLOURS: dict[str, str] = {"red": "0.85 0.15 0.15 1", "green": "0.15 0.65 0.25 1", "blue": "0.2 0.3 0.9 1"}
GOAL_COLOUR = "0.95 0.75 0.1 1"
WOOD, METAL = "0.55 0.4 0.25 1", "0.3 0.3 0.33 1"
DRAWER_TRAVEL, TAB, TAB_HEIGHT = 0.1, 0.004, 0.05  # tab: half its thickness; the hand pulls and pushes the drawer by it
DRAWER_HALF, DRAWER_WALL, CABINET_HEIGHT = 0.05, 0.003, 0.034
BUTTON_TOP, BUTTON_TRAVEL = 0.035, 0.012
PARKED = 2.0  # metres along x: where objects float that do not take part, out of every camera's sight

# The hand's frame is the point between the fingertips; they reach 1 cm below it.
TEMPLATE = """
<mujoco model="tabletop">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="{timestep}" integrator="implicitfast" cone="elliptic" impratio="5"/>
  <visual>
    <headlight ambient="0.35 0.35 0.35" diffuse="0.25 0.25 0.25" specular="0 0 0"/>
    <quality shadowsize="0" offsamples="0"/>
  </visual>
  <default>
    <geom friction="1 0.005 0.0001" condim="4"/>
    <default class="drawn"><geom contype="0" conaffinity="0" group="1"/></default>
    <default class="finger">
      <geom type="box" size="0.008 0.005 0.025" pos="0 0 0.015" mass="0.05" friction="1.5 0.01 0.0001"
            rgba="0.25 0.25 0.28 1"/>
    </default>
  </default>
  <worldbody>
    <light pos="0.3 -0.4 1.2" dir="-0.25 0.3 -1" diffuse="0.5 0.5 0.5" specular="0 0 0" castshadow="false"/>
    <camera name="front" pos="0 -0.56 0.5" xyaxes="1 0 0 0 0.67 0.74" fovy="44"/>
    <camera name="top" pos="0 0 0.85" xyaxes="1 0 0 0 1 0" fovy="40"/>
    <geom name="table" type="plane" size="0.5 0.5 0.05" rgba="0.82 0.78 0.72 1"/>
    <body name="hand" gravcomp="1">
      <joint name="hand_x" type="slide" axis="1 0 0"/>
      <joint name="hand_y" type="slide" axis="0 1 0"/>
      <joint name="hand_z" type="slide" axis="0 0 1"/>
      <geom name="palm" type="cylinder" size="0.02 0.015" pos="0 0 0.055" mass="0.9" rgba="0.35 0.35 0.4 1"/>
      <geom class="drawn" type="cylinder" size="0.012 0.15" pos="0 0 0.22" mass="0" rgba="0.5 0.5 0.55 1"/>
      <body name="left" gravcomp="1" pos="0 0.005 0">
        <joint name="left" type="slide" axis="0 1 0" range="0 {finger_range}"/>
        <geom class="finger"/>
      </body>
      <body name="right" gravcomp="1" pos="0 -0.005 0">
        <joint name="right" type="slide" axis="0 -1 0" range="0 {finger_range}"/>
        <geom class="finger"/>
      </body>
    </body>
    {things}
  </worldbody>
  <contact><exclude body1="left" body2="right"/></contact>
  <actuator>
    <position joint="hand_x" kp="4000" dampratio="1" forcerange="-40 40"/>
    <position joint="hand_y" kp="4000" dampratio="1" forcerange="-40 40"/>
    <position joint="hand_z" kp="4000" dampratio="1" forcerange="-40 40"/>
    <position joint="left" kp="500" dampratio="1" forcerange="-10 10"/>
    <position joint="right" kp="500" dampratio="1" forcerange="-10 10"/>
  </actuator>
  {sensors}
</mujoco>
"""


def scene_xml(things: Sequence[str]) -> str:
    """The model of hand, table and these bodies, free ones first."""
    joined = "\n".join(things)
    sensors = '<sensor><touch site="fixture"/></sensor>' if 'site name="fixture"' in joined else ""
    return TEMPLATE.format(timestep=TIMESTEP, finger_range=FINGER_RANGE, things=joined, sensors=sensors)


def free(number: int, geom: str, rgba: str, *more: str) -> str:
    """A body that is moved by whatever pushes it. geom, more: attributes of each of its shapes."""
    shapes = "".join(f'<geom {shape} rgba="{rgba}"/>' for shape in (geom, *more))
    return f'<body name="object_{number}"><freejoint/>{shapes}</body>'


def goal(parts: Sequence[str], name: str = "goal") -> str:
    """A body that is placed by `mocap_pos` and moved by nothing."""
    return f'<body name="{name}" mocap="true">{"".join(parts)}</body>'


def region(radius: float, rgba: str = GOAL_COLOUR) -> str:
    return f'<geom class="drawn" type="cylinder" size="{radius} 0.0005" rgba="{rgba}"/>'


def fixture() -> list[str]:
    """Four walls around a square hole, from the table up."""
    hole, wall, half = PEG_SIDE / 2 + CLEARANCE, 0.012, FIXTURE_HEIGHT / 2
    long = hole + 2 * wall
    walls = []
    for sign in (-1, 1):
        walls.append((f"{wall} {long} {half}", f"{sign * (hole + wall)} 0 {half}"))
        walls.append((f"{hole} {wall} {half}", f"0 {sign * (hole + wall)} {half}"))
    return [
        '<site name="fixture" type="box" size="0.1 0.1 0.1" rgba="0 0 0 0"/>',
        *(
            f'<geom type="box" size="{size}" pos="{place}" solref="0.01 1" rgba="{GOAL_COLOUR}"/>'
            for size, place in walls
        ),
    ]


def bowl(rgba: str = GOAL_COLOUR) -> list[str]:
    """Eight walls, without a floor of its own."""
    half, turn = BOWL_HEIGHT / 2, 0.7853981633974483
    return [
        f'<geom type="box" size="0.003 {BOWL_RADIUS * 0.43:.4f} {half}" pos="{BOWL_RADIUS * x:.5f} '
        f'{BOWL_RADIUS * y:.5f} {half}" euler="0 0 {side * turn}" rgba="{rgba}"/>'
        for side, (x, y) in enumerate(
            ((1, 0), (0.70711, 0.70711), (0, 1), (-0.70711, 0.70711),
             (-1, 0), (-0.70711, -0.70711), (0, -1), (0.70711, -0.70711))
        )
    ]  # fmt: skip


def _box(x: float, y: float, z: float, at: str, rgba: str, more: str = "") -> str:
    return f'<geom type="box" size="{x:.4f} {y:.4f} {z:.4f}" pos="{at}" rgba="{rgba}" {more}/>'


def drawer() -> list[str]:
    """A cabinet without a bottom, whose front is at the body's origin and looks along -y, and a drawer that slides out
    of it. Between the two is a gap, so that nothing but the joint's own friction holds the drawer."""
    half, wall, top = DRAWER_HALF, DRAWER_WALL, CABINET_HEIGHT
    side, height = half + 3 * wall, top / 2
    cabinet = [
        *(_box(wall, half, height, f"{sign * side} {half} {height}", WOOD) for sign in (-1, 1)),
        _box(side, wall, height, f"0 {2 * half + wall} {height}", WOOD),
        _box(side + wall, half + wall, wall / 2, f"0 {half + wall} {top + wall / 2}", WOOD),
    ]
    low, inside = 0.002, (top - 0.008) / 2
    tray = [
        _box(half, half, 0.001, f"0 {half} {low}", METAL, 'mass="0.1"'),
        *(_box(wall, half, inside, f"{sign * (half - wall)} {half} {low + inside}", METAL) for sign in (-1, 1)),
        *(_box(half, wall, inside, f"0 {place} {low + inside}", METAL) for place in (wall, 2 * half - wall)),
        _box(0.02, TAB, TAB_HEIGHT / 2, f"0 {-TAB} {low + TAB_HEIGHT / 2}", "0.9 0.9 0.9 1"),
    ]
    slide = (
        f'<joint name="drawer" type="slide" axis="0 -1 0" range="0 {DRAWER_TRAVEL}" damping="3" frictionloss="0.3"/>'
    )
    return [*cabinet, f'<body name="tray" gravcomp="1">{slide}{"".join(tray)}</body>']


def button() -> list[str]:
    """A cap on a spring, in a socket."""
    press = f'<joint name="button" type="slide" axis="0 0 1" range="-{BUTTON_TRAVEL} 0" stiffness="200" damping="2"/>'
    cap = f'type="cylinder" size="0.018 0.0075" pos="0 0 {BUTTON_TOP - 0.0075}" mass="0.02" rgba="0.95 0.45 0.1 1"'
    return [
        f'<geom type="cylinder" size="0.03 0.0075" pos="0 0 0.0075" rgba="{METAL}"/>',
        f'<body name="cap" gravcomp="1">{press}<geom {cap}/></body>',
    ]


PUCK = f'type="cylinder" size="{PUCK_RADIUS} {PUCK_HEIGHT / 2}" mass="0.15" friction="0.5 0.005 0.0001"'
CUBE = f'type="box" size="{CUBE_SIDE / 2} {CUBE_SIDE / 2} {CUBE_SIDE / 2}" mass="0.04"'
PEG = f'type="box" size="{PEG_SIDE / 2} {PEG_SIDE / 2} {PEG_HEIGHT / 2}" mass="0.05" solref="0.01 1"'
PILLAR = f'type="cylinder" size="{PILLAR_RADIUS} {PILLAR_HEIGHT / 2}" mass="0.2"'
