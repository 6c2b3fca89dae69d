"""What a training consists of, as numbers: the world, the network, the sizes and the weights of the losses."""

from dataclasses import asdict, dataclass, fields, replace

N_MASKS = 128  # holes that are drawn together
WORLDS = ("patterns", "scenes", "leaves", "photos")


@dataclass(frozen=True)
class Recipe:
    """One training. ``dataclasses.replace`` or ``changed`` makes a trial of it that differs in one thing."""

    world: str  # what the sheets show: "patterns", "scenes" (half of them the lessons'), "leaves", or "photos" of the user's
    ngf: int = 16  # channels of the generator's first layer
    n_blocks: int = 6
    ratio: float = 0.75  # share of global channels
    batch: int = 16  # pictures of 64 px to a step; of larger ones as many as have the same number of pixels
    large: float = 0.0  # share of the steps with pictures of 128 px
    close: float = 0.5  # share of the pictures that show a half or a quarter of a sheet's side
    known: float = 0.3  # weight of L1 outside the hole
    hole: float = 1.0  # weight of L1 in the hole
    features: float = 0.0  # weight of the distance of scene_features
    adversarial: float = 0.0  # weight of what the discriminator says
    matching: float = 0.0  # weight of the L1 of the discriminator's features
    penalty: float = 0.0001  # R1's weight; by LaMa's 0.001 this small discriminator learns little
    noise: float = 0.0  # on z while training, in relation to its root mean square
    lr: float = 0.02  # of Muon; AdamW takes a tenth of it
    horizon: int = 1000  # steps that the moving average of the weights looks back
    seed: int = 0  # of the weights at the start, the sheets and the holes, 0 to 3

    def changed(self, **changes):
        """The same recipe with some numbers changed; words are read as the field's kind, so that a command line can give them.

        Raises:
            ValueError: where there is no such number, or a word is none.
        """
        kinds = {field.name: field.type for field in fields(self)}
        for name, value in changes.items():
            if name not in kinds:
                raise ValueError(f"{name} is not a part of a recipe; expected one of {', '.join(kinds)}")
            try:
                changes[name] = kinds[name](value)
            except ValueError as error:
                raise ValueError(f"{name} is {value!r}; expected {kinds[name].__name__}") from error
        return replace(self, **changes)

    def __post_init__(self):
        if self.world not in WORLDS:
            raise ValueError(f"world is {self.world!r}; expected one of {', '.join(WORLDS)}")
        if self.seed not in range(4):  # torch's generator takes 32 bits: others would meet the seeds of held-out pictures
            raise ValueError(f"seed is {self.seed}; expected 0, 1, 2 or 3")

        if not 4 <= self.batch <= N_MASKS or N_MASKS % self.batch:
            raise ValueError(f"batch is {self.batch}; expected a divisor of {N_MASKS}, at least 4")  # holes come by that many

    def as_dict(self):
        return asdict(self)


SCENES = Recipe("scenes", ngf=24, close=0.25, adversarial=0.005, matching=0.2, noise=0.1)

RECIPES = {
    "mini-lama": SCENES,
    "mini-conv": SCENES.changed(ngf=18, ratio=0.0),  # about as many weights, without Fourier layers
    "mini-photo": Recipe("leaves", ngf=24, adversarial=0.005, matching=0.2, noise=0.1),
}
