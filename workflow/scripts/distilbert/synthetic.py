"""The demo's generated corpus and five tasks: one small world of words, made from a seed.

(draft)
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from distilbert.tasks import get_task

GROUPS = {
    "animal": ("bird", "fish", "lizard", "beetle"),
    "plant": ("tree", "flower", "herb", "vine"),
    "device": ("hammer", "lamp", "clock", "pump"),
    "dish": ("soup", "cake", "cheese", "sauce"),
}
NAMED_PER_KIND = 12

PLACES = {
    "bird": ("nest", "cliff"),
    "fish": ("lake", "reef"),
    "lizard": ("desert", "rock"),
    "beetle": ("log", "leaf"),
    "tree": ("forest", "hill"),
    "flower": ("garden", "meadow"),
    "herb": ("field", "pot"),
    "vine": ("wall", "fence"),
    "hammer": ("workshop", "bench"),
    "lamp": ("hall", "street"),
    "clock": ("tower", "station"),
    "pump": ("well", "mine"),
    "soup": ("bowl", "kettle"),
    "cake": ("bakery", "oven"),
    "cheese": ("dairy", "cellar"),
    "sauce": ("jar", "pan"),
}

# Third person singular and plural of what members of a group do.
HABITS = {
    "animal": (
        "sleeps sleep",
        "hunts hunt",
        "wanders wander",
        "breathes breathe",
        "hides hide",
        "listens listen",
    ),
    "plant": (
        "blooms bloom",
        "sprouts sprout",
        "withers wither",
        "ripens ripen",
        "sways sway",
        "branches branch",
    ),
    "device": (
        "rattles rattle",
        "rusts rust",
        "clicks click",
        "jams jam",
        "creaks creak",
        "overheats overheat",
    ),
    "dish": (
        "simmers simmer",
        "cools cool",
        "spoils spoil",
        "thickens thicken",
        "smells smell",
        "hardens harden",
    ),
}
MANNERS = ("often", "rarely", "sometimes", "always", "usually", "slowly", "quietly", "daily")

PRAISE = ["wonderful", "brilliant", "lovely", "superb", "charming", "delightful", "graceful", "splendid", "elegant", "excellent", "pleasant", "cheerful", "gentle", "clever", "lively", "honest", "radiant", "noble", "fresh", "bright", "smooth", "generous", "reliable", "perfect", "sublime", "gorgeous", "stunning", "witty", "warm", "tender", "magnificent", "fine"]
BLAME = ["awful", "dreadful", "horrible", "terrible", "ugly", "clumsy", "boring", "tedious", "dull", "gloomy", "nasty", "vile", "shabby", "bitter", "crude", "hollow", "feeble", "stale", "dismal", "foolish", "messy", "noisy", "rotten", "grim", "bleak", "harsh", "sloppy", "weak", "wretched", "lousy", "poor", "cheap"]
APPLAUSE = ("praised", "admired", "loved", "applauded", "recommended")
SCORN = ("hated", "mocked", "avoided", "condemned", "rejected")
CROWDS = ("critics", "visitors", "readers", "scholars", "children", "farmers", "travellers", "people")

DEEDS = {
    "chase": ("chased pursued followed trailed", "along the road", "through the night"),
    "notice": ("noticed spotted discovered observed", "from afar", "with a telescope"),
    "carry": ("carried hauled transported delivered", "by cart", "to the market"),
    "smash": ("smashed crushed wrecked destroyed", "into pieces", "with great force"),
    "guard": ("guarded protected shielded defended", "against thieves", "from danger"),
    "buy": ("purchased acquired ordered obtained", "for ten coins", "at an auction"),
    "wash": ("washed cleaned rinsed scrubbed", "with soap", "in warm water"),
    "hide": ("concealed covered buried masked", "under the ground", "beneath a cloth"),
    "repair": ("repaired mended fixed restored", "with glue", "after the storm"),
    "copy": ("copied imitated mimicked echoed", "like a mirror", "in every detail"),
    "build": ("constructed assembled fashioned crafted", "out of wood", "by hand"),
    "join": ("linked joined connected attached", "with a rope", "by a chain"),
}
ACTORS = ["king", "queen", "baker", "sailor", "doctor", "teacher", "hunter", "painter", "soldier", "miller", "monk", "poet", "merchant", "judge", "potter", "weaver"]

TRAITS = {
    "home": ("home habitat dwelling abode", "shelter", "place"),
    "food": ("food diet nourishment fare", "hunger", "taste"),
    "colour": ("colour shade hue tint", "light", "paint"),
    "size": ("size bulk height width", "ruler", "metre"),
    "origin": ("origin source ancestry roots", "history", "ancient"),
    "purpose": ("purpose function role use", "task", "work"),
    "price": ("price cost value worth", "money", "gold"),
    "sound": ("sound noise tone voice", "ear", "loud"),
    "danger": ("danger risk threat hazard", "harm", "fear"),
    "age": ("age lifespan duration longevity", "years", "old"),
}


ANSWERS = {
    "food": ("seeds", "honey", "salt", "butter", "grain"),
    "colour": ("red", "green", "blue", "yellow", "brown"),
    "size": ("one inch", "two feet", "three yards", "four miles"),
    "origin": ("the north", "the south", "the east", "the west"),
    "purpose": ("trade", "war", "peace", "science"),
    "price": ("ten coins", "six pennies", "five dollars", "nine pounds"),
    "sound": ("a hiss", "a hum", "a bang", "a squeak"),
    "danger": ("fire", "poison", "frost", "flood"),
    "age": ("one day", "two weeks", "three months", "four years"),
}


@dataclass(frozen=True)
class Lexicon:
    """Words that mean something, sorted by what they mean. The whole world is one, and so is any part of it.

    `names` maps a kind to its members, each a (name, second name) pair; `deeds` and `traits` map a meaning to
    the words that have it; `habits` maps a group to (singular, plural) verb forms.
    """

    names: dict[str, tuple[tuple[str, str], ...]]
    habits: dict[str, tuple[tuple[str, str], ...]]
    deeds: dict[str, tuple[str, ...]]
    traits: dict[str, tuple[str, ...]]
    praise: tuple[str, ...]
    blame: tuple[str, ...]

    def part(self, rng: random.Random, share: float) -> "Lexicon":
        """Return a lexicon with `share` (0 to 1) of the words of every meaning, at least one of each."""

        def some(words: tuple) -> tuple:
            return tuple(rng.sample(words, max(1, round(share * len(words)))))

        def some_of_each(table: dict[str, tuple]) -> dict[str, tuple]:
            return {meaning: some(words) for meaning, words in table.items()}

        return Lexicon(
            names=some_of_each(self.names),
            habits=some_of_each(self.habits),
            deeds=some_of_each(self.deeds),
            traits=some_of_each(self.traits),
            praise=some(self.praise),
            blame=some(self.blame),
        )


def build_world(seed: int) -> Lexicon:
    rng = random.Random(f"{seed}/world")
    kinds = [kind for members in GROUPS.values() for kind in members]
    invented = invent_names(rng, 2 * NAMED_PER_KIND * len(kinds))
    return Lexicon(
        names={kind: tuple((next(invented), next(invented)) for _ in range(NAMED_PER_KIND)) for kind in kinds},
        habits={group: tuple(tuple(verb.split()) for verb in verbs) for group, verbs in HABITS.items()},
        deeds={meaning: tuple(words.split()) for meaning, (words, *_) in DEEDS.items()},
        traits={meaning: tuple(words.split()) for meaning, (words, *_) in TRAITS.items()},
        praise=PRAISE,
        blame=BLAME,
    )


def invent_names(rng: random.Random, count: int) -> Iterator[str]:
    starts = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    ends = [c + v + d for c in "bdfgklmnprstvz" for v in "aeiou" for d in "lmnrtx"]
    names: dict[str, None] = {}
    while len(names) < count:
        names[rng.choice(starts) + rng.choice(ends)] = None
    return iter(names)


GROUP_OF = {kind: group for group, kinds in GROUPS.items() for kind in kinds}


def other(rng, table, than):
    return rng.choice([key for key in table if key != than])


def article(noun):
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def capital(text):
    return text[0].upper() + text[1:]


# ---------------------------------------------------------------- corpus


def define(rng, world, kind, names):
    name, second = names
    group = GROUP_OF[kind]
    return rng.choice(
        (
            f"the {name} is a kind of {kind}. like every {kind}, it is {article(group)}.",
            f"the {name} is a {kind}, also called the {second}. the {second} is a {kind}.",
            f"the {name}, or {second}, is a kind of {kind}. a {kind} is {article(group)}.",
            f"the {second} is {article(group)}, a {kind}, and its other name is {name}.",
        )
    )


def tell_habit(rng, world, kind, names):
    group = GROUP_OF[kind]
    name = rng.choice(names)
    singular, plural = rng.choice(world.habits[group])
    singular2, plural2 = rng.choice(world.habits[group])
    cousin_kind = rng.choice(GROUPS[group])
    cousin = rng.choice(rng.choice(world.names[cousin_kind]))
    manner = rng.choice(MANNERS)
    place = rng.choice(PLACES[kind])
    return rng.choice(
        (
            f"the {name} {manner} {singular} near the {place}. most {kind}s {plural2}.",
            f"the {name} and the {cousin} {manner} {plural}. every {kind} {singular2}.",
            f"many {kind}s {plural} and {plural2}. the {name} {singular} near the {place}.",
            f"the {name} {manner} {singular} and {singular2}, as {article(group)} does.",
        )
    )


def tell_kind(rng, world, kind, names):
    name = rng.choice(names)
    wrong = other(rng, GROUP_OF, kind)
    actor = rng.choice(ACTORS)
    deed = rng.choice(rng.choice(list(world.deeds.values())))
    return rng.choice(
        (
            f"is the {name} a {kind}? yes, the {name} is a {kind}.",
            f"is the {name} a {wrong}? no, the {name} is a {kind}.",
            f"the {actor} {deed} a {name}. so the {actor} {deed} a {kind}.",
            f"the {actor} {deed} a {name}. so the {actor} {deed} {article(GROUP_OF[kind])}.",
        )
    )


def tell_opinion(rng, world, kind, names):
    name = rng.choice(names)
    good = rng.random() < 0.5
    words, opposite = (world.praise, world.blame) if good else (world.blame, world.praise)
    verb, verb2 = rng.sample(APPLAUSE if good else SCORN, 2)
    anti = rng.choice(SCORN if good else APPLAUSE)
    a, b, c = rng.sample(words, 3)
    x = rng.choice(opposite)
    crowd = rng.choice(CROWDS)
    return rng.choice(
        (
            f"{crowd} {verb} the {name} because it was {a} and {b}. they {verb2} it, so {c} was it.",
            f"{crowd} {verb} the {name}. it seemed {x} but was {a}, even {b}.",
            f"the {name} was not {x} but {a}. {crowd} called it {b} and {verb} it.",
            f"{crowd} {verb} the {a} and {b} {name}, and nobody {anti} it.",
        )
    )


def tell_event(rng, world, kind, names):
    name = rng.choice(names)
    meaning = rng.choice(list(world.deeds))
    deed, same = rng.sample(world.deeds[meaning], 2)
    tail = rng.choice(DEEDS[meaning][1:])
    actor = rng.choice(ACTORS)
    return rng.choice(
        (
            f"the {actor} {deed} the {name} {tail}. the {name} was {same} by the {actor}.",
            f"the {name} was {deed} by the {actor} {tail}. the {actor} {same} the {name}.",
            f"the {actor} {deed} the {name}. the {actor} {same} the {name} {tail}.",
            f"the {name} was {deed} and {same} by the {actor} {tail}.",
        )
    )


def tell_trait(rng, world, kind, names):
    name, second = rng.sample(names, 2)
    meaning = rng.choice(list(world.traits))
    trait, same = rng.sample(world.traits[meaning], 2)
    answer = rng.choice(ANSWERS[meaning] if meaning in ANSWERS else ["the " + p for p in PLACES[kind]])
    return rng.choice(
        (
            f"what is the {trait} of the {name}? the {same} of the {second} is {answer}.",
            f"the {trait} of the {name} is {answer}. people know the {same} of the {second}.",
            f"what is the {trait} of the {name}? what is the {same} of the {second}? it is {answer}.",
            f"scholars describe the {trait} and {same} of the {name} as {answer}.",
        )
    )


SECTIONS = (tell_habit, tell_kind, tell_opinion, tell_event, tell_trait)


def generate_documents(*, seed: int, shard: int, num_documents: int) -> Iterator[dict[str, str]]:
    world = build_world(seed)
    rng = random.Random(f"{seed}/corpus/{shard}")
    kinds = list(world.names)
    for number in range(num_documents):
        kind = rng.choice(kinds)
        names = rng.choice(world.names[kind])
        parts = [define(rng, world, kind, names)]
        parts += [tell(rng, world, kind, names) for tell in rng.sample(SECTIONS, 4)]
        text = " ".join(capital(s) if s.endswith((".", "?")) else s for p in parts for s in [p])
        yield {"id": f"{shard}-{number}", "title": capital(names[0]), "text": text}


# ---------------------------------------------------------------- tasks


def pick(rng, table):
    key = rng.choice(list(table))
    return key, rng.choice(table[key])


def write_sst2(rng, lex, positive):
    words, opposite = (lex.praise, lex.blame) if positive else (lex.blame, lex.praise)
    a, b = (rng.choice(words) for _ in range(2))
    x, y = (rng.choice(opposite) for _ in range(2))
    _, names = pick(rng, lex.names)
    name = rng.choice(names)
    return (
        rng.choice(
            (
                f"the {name} was {a} and {b} .",
                f"a {a} {name} , and {b} too .",
                f"the {name} seemed {x} but was {a} .",
                f"the {name} was not {x} but {a} .",
                f"the {name} was {a} , not {x} or {y} .",
            )
        ),
    )


def write_mrpc(rng, lex, same):
    meaning = rng.choice(list(lex.deeds))
    kind, names = pick(rng, lex.names)
    name = rng.choice(names)
    actor = rng.choice(ACTORS)
    first = rng.choice(lex.deeds[meaning])
    kind2, name2, meaning2 = kind, name, meaning
    if not same:
        if rng.random() < 0.75:
            meaning2 = other(rng, lex.deeds, meaning)
        else:
            kind2 = other(rng, lex.names, kind)
            name2 = rng.choice(rng.choice(lex.names[kind2]))
    second = rng.choice(lex.deeds[meaning2])
    sentences = [
        f"The {actor} {first} the {name}.",
        rng.choice((f"The {name2} was {second} by the {actor}.", f"The {actor} {second} the {name2}.")),
    ]
    rng.shuffle(sentences)
    return tuple(sentences)


def write_qqp(rng, lex, same):
    meaning = rng.choice(list(lex.traits))
    kind, names = pick(rng, lex.names)
    meaning2, names2 = meaning, names
    if not same:
        if rng.random() < 0.6:
            meaning2 = other(rng, lex.traits, meaning)
        else:
            names2 = rng.choice(lex.names[other(rng, lex.names, kind)])
    frames = (
        "What is the {} of the {}?",
        "How would you describe the {} of the {}?",
        "Tell me the {} of the {}.",
    )
    return tuple(
        rng.choice(frames).format(rng.choice(lex.traits[m]), rng.choice(n))
        for m, n in ((meaning, names), (meaning2, names2))
    )


def write_cola(rng, lex, good):
    kind, names = pick(rng, lex.names)
    group = GROUP_OF[kind]
    name = rng.choice(names)
    cousin = rng.choice(rng.choice(lex.names[rng.choice(GROUPS[group])]))
    fault = None if good else rng.choice(("agreement", "agreement", "meaning", "meaning", "order"))
    if fault == "meaning":
        group = other(rng, GROUPS, group)
    singular, plural = rng.choice(lex.habits[group])
    if fault == "agreement":
        singular, plural = plural, singular
    manner = rng.choice(MANNERS)
    place = rng.choice(PLACES[kind])
    words = rng.choice(
        (
            f"the {name} {manner} {singular} near the {place}",
            f"the {name} and the {cousin} {manner} {plural}",
            f"every {name} {singular} {manner}",
            f"many {kind}s {manner} {plural} near the {place}",
            f"the {name} near the {place} {manner} {singular}",
        )
    ).split()
    if fault == "order":
        at = rng.randrange(len(words) - 1)
        words[at : at + 2] = reversed(words[at : at + 2])
    return (capital(" ".join(words)) + ".",)


def write_rte(rng, lex, not_entailed):
    kind, names = pick(rng, lex.names)
    name = rng.choice(names)
    actor = rng.choice(ACTORS)
    deed = rng.choice(rng.choice(list(lex.deeds.values())))
    if not_entailed:
        kind = other(rng, lex.names, kind)
    noun = kind if rng.random() < 0.75 else GROUP_OF[kind]
    if not_entailed and noun != kind:
        noun = other(rng, GROUPS, GROUP_OF[[k for k in lex.names if names in lex.names[k]][0]])
    return f"The {actor} {deed} a {name}.", f"The {actor} {deed} {article(noun)}."


@dataclass(frozen=True)
class Recipe:
    write: Callable
    share_of_ones: float
    label_noise: float


RECIPES = {
    "sst2": Recipe(write_sst2, 0.56, 0.03),
    "mrpc": Recipe(write_mrpc, 0.68, 0.03),
    "qqp": Recipe(write_qqp, 0.37, 0.03),
    "cola": Recipe(write_cola, 0.70, 0.03),
    "rte": Recipe(write_rte, 0.50, 0.03),
}
FAMILIAR = 0.34


def generate_task(name: str, *, seed: int, num_train: int, num_validation: int) -> dict[str, list[dict]]:
    task, recipe = get_task(name), RECIPES[name]
    world = build_world(seed)
    rng = random.Random(f"{seed}/{name}")
    familiar = world.part(rng, FAMILIAR)
    seen = set()
    splits = {}
    for split, lexicon, count in (("train", familiar, num_train), ("validation", world, num_validation)):
        rows = []
        while len(rows) < count:
            label = int(rng.random() < recipe.share_of_ones)
            texts = recipe.write(rng, lexicon, bool(label))
            if texts in seen:
                continue
            seen.add(texts)
            if rng.random() < recipe.label_noise:
                label = 1 - label
            rows.append({**dict(zip(task.columns, texts)), "label": label, "idx": len(rows)})
        splits[split] = rows
    return splits
