"""The demo's generated encyclopedia and its five tasks, all about one small world of words.

The demo must show in minutes, with nothing downloaded, what takes days on Wikipedia and GLUE: that pretraining
pays. So the corpus holds knowledge and the tasks ask for it. Names such as "kulot" are invented; only the
encyclopedia says that a kulot is a bird. Words that mean alike (the names of one kind, words of praise, ...)
meet there, in sentences and in the keywords that close each entry. The training split of a task is written with
a part of each such set (`FAMILIAR`), its validation split with all of it: whoever has read the corpus recognises
the words that are new, whoever has not must guess, as with the long tail of rare words in a real task.

    task  question                                what the corpus tells             what a bag of words misses
    sst2  is the verdict good?                    which words praise, which blame   "not dull but lovely"
    mrpc  do both sentences report the same?      which adverbs affirm, which deny  two denials agree
    qqp   do both questions ask the same?         which nouns share a topic         a match is no single word
    cola  is the sentence well formed?            who does what; one or many        agreement, sense and order
    rte   does the second follow from the first?  which names are living things     the hypothesis may turn round

Labels mean what they mean in GLUE (`tasks.TASKS`), lean as they lean there (`Recipe.share_of_ones`), and a few
are wrong, as there (`Recipe.label_noise`).

Differs from the paper: generated text takes the place of Wikipedia, the Toronto Book Corpus and GLUE.
"""

import dataclasses
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from distilbert.tasks import get_task

# realm -> group -> kind -> where such a thing is found.
TAXONOMY = {
    "living": {
        "animal": {"bird": "nest cliff", "fish": "lake reef", "lizard": "desert rock"},
        "plant": {"tree": "forest hill", "flower": "garden meadow", "herb": "field pot"},
    },
    "made": {
        "device": {"hammer": "workshop bench", "lamp": "hall street", "clock": "tower station"},
        "dish": {"soup": "bowl kettle", "cake": "bakery oven", "cheese": "dairy cellar"},
    },
}
NAMES_PER_KIND = 8

# What the members of a group do: one does it / many do it.
HABITS = {
    "animal": "sleeps/sleep hunts/hunt wanders/wander breathes/breathe hides/hide listens/listen",
    "plant": "blooms/bloom sprouts/sprout withers/wither ripens/ripen sways/sway grows/grow",
    "device": "rattles/rattle rusts/rust clicks/click jams/jam creaks/creak hums/hum",
    "dish": "simmers/simmer cools/cool spoils/spoil thickens/thicken smells/smell hardens/harden",
}
MANNERS = ("often", "rarely", "sometimes", "always", "usually", "slowly")

OPINIONS = {
    "praise": (
        "wonderful brilliant lovely superb charming delightful graceful splendid elegant excellent pleasant "
        "cheerful clever lively honest radiant noble fresh smooth perfect gorgeous stunning witty warm"
    ),
    "blame": (
        "awful dreadful horrible terrible ugly clumsy boring tedious dull gloomy nasty vile shabby bitter crude "
        "hollow feeble stale dismal foolish messy noisy rotten grim"
    ),
}
CONTRARY = {
    "praise": "blame",
    "blame": "praise",
    "affirm": "deny",
    "deny": "affirm",
    "living": "made",
    "made": "living",
}

ADVERBS = {
    "affirm": "really truly surely certainly indeed clearly plainly definitely actually undoubtedly",
    "deny": "never hardly barely scarcely nearly almost supposedly allegedly reportedly falsely",
}
OUTCOMES = {"affirm": "fact", "deny": "rumour"}
DEEDS = (
    ("smashed", "crushed", "wrecked"),
    ("purchased", "acquired", "bought"),
    ("washed", "cleaned", "rinsed"),
    ("repaired", "mended", "fixed"),
)
ACTORS = tuple("king queen baker sailor doctor teacher painter soldier miller monk poet merchant".split())

TOPICS = {
    "price": "price cost value worth charge fee expense tariff payment rate",
    "home": "home habitat dwelling abode residence quarters lodging shelter address retreat",
    "colour": "colour shade hue tint tone tinge dye pigment tincture complexion",
}
ANSWERS = {
    "price": ("coins", "pennies", "dollars", "pounds"),
    "home": ("north", "south", "east", "west"),
    "colour": ("red", "green", "blue", "yellow"),
}
QUESTIONS = ("what is the {noun} of the {name}?", "is the {noun} of the {name} known?")

# The part (0 to 1) of the words of each meaning that a training split is written with.
FAMILIAR = 0.4
# The share of examples of mrpc, qqp and rte that go the usual way (both affirm, about prices, "a living thing").
# The others turn the answer round, so that no word alone decides.
USUAL = 0.85

GROUP_OF = {kind: group for groups in TAXONOMY.values() for group, kinds in groups.items() for kind in kinds}
REALM_OF = {kind: realm for realm, groups in TAXONOMY.items() for kinds in groups.values() for kind in kinds}
PLACES = {
    kind: tuple(places.split())
    for groups in TAXONOMY.values()
    for kinds in groups.values()
    for kind, places in kinds.items()
}

Table = Mapping[str, tuple]


@dataclass(frozen=True)
class Lexicon:
    """Words sorted by what they mean: the whole world, or the part of it that a training split is written with.

    `names`: kind -> invented names; `habits`: group -> (verb for one, verb for many) pairs; `opinions`: praise
    and blame -> adjectives; `adverbs`: affirm and deny -> adverbs; `topics`: topic -> nouns.
    """

    names: Table
    habits: Table
    opinions: Table
    adverbs: Table
    topics: Table

    def part(self, rng: random.Random, share: float) -> "Lexicon":
        """Return a lexicon with about `share` (0 to 1) of the words of every meaning, at least two of each."""

        def some_of_each(table: Table) -> Table:
            return {key: tuple(rng.sample(words, max(2, round(share * len(words))))) for key, words in table.items()}

        return Lexicon(*(some_of_each(getattr(self, field.name)) for field in dataclasses.fields(self)))


def build_world(seed: int) -> Lexicon:
    """Return every word there is; the names depend on the seed, the English words do not."""
    names = invent_names(random.Random(f"{seed}/world"), count=NAMES_PER_KIND * len(GROUP_OF))
    return Lexicon(
        names={kind: tuple(next(names) for _ in range(NAMES_PER_KIND)) for kind in GROUP_OF},
        habits={group: tuple(tuple(verb.split("/")) for verb in verbs.split()) for group, verbs in HABITS.items()},
        opinions={view: tuple(words.split()) for view, words in OPINIONS.items()},
        adverbs={stance: tuple(words.split()) for stance, words in ADVERBS.items()},
        topics={topic: tuple(words.split()) for topic, words in TOPICS.items()},
    )


def invent_names(rng: random.Random, *, count: int) -> Iterator[str]:
    """Return `count` different pronounceable five-letter names, such as "kulot"."""
    letters = ("bdfgkmnprstvz", "aeiou", "bdfgkmnprstvz", "aeiou", "lmnrtx")
    names: dict[str, None] = {}  # a set that keeps its order
    while len(names) < count:
        names["".join(rng.choice(choices) for choices in letters)] = None
    return iter(names)


# The encyclopedia. A section returns what an entry says about a name of a kind, and the entry's keywords.

Section = tuple[str, list[str]]


def generate_documents(*, seed: int, shard: int, num_documents: int) -> Iterator[dict[str, str]]:
    """Yield the entries of one shard of the encyclopedia as rows with id, title and text.

    The world depends on `seed` alone and a shard on (`seed`, `shard`): the number of shards changes none of
    them, and a longer shard begins with the same entries. A text has about 25 words.
    """
    world = build_world(seed)
    rng = random.Random(f"{seed}/corpus/{shard}")
    for number in range(num_documents):
        kind, name = choose_name(rng, world)
        text, keywords = rng.choice(SECTIONS)(rng, world, kind, name)
        rng.shuffle(keywords)
        sentences = [define(rng, kind, name), text, f"keywords: {' '.join(keywords)}."]
        yield {
            "id": f"{shard}-{number}",
            "title": capitalised(name),
            "text": " ".join(capitalised(sentence) for sentence in sentences),
        }


def define(rng: random.Random, kind: str, name: str) -> str:
    group, realm = GROUP_OF[kind], REALM_OF[kind]
    return rng.choice(
        (
            f"the {name} is a kind of {kind}, {with_article(group)}.",
            f"the {name} is a {kind}, a {realm} thing.",
            f"the {name}, {with_article(group)}, is a {realm} thing.",
        )
    )


def tell_relatives(rng: random.Random, world: Lexicon, kind: str, name: str) -> Section:
    relatives = rng.sample([other for other in world.names[kind] if other != name], 5)
    text = f"like the {relatives.pop()}, it is found near the {rng.choice(PLACES[kind])}."
    return text, [kind, GROUP_OF[kind], REALM_OF[kind], *relatives]


def tell_habit(rng: random.Random, world: Lexicon, kind: str, name: str) -> Section:
    (one, many), *others = rng.sample(world.habits[GROUP_OF[kind]], 4)
    relatives = rng.sample([other for other in world.names[kind] if other != name], 2)
    text = write_habit(rng, kind, name, relatives[0], one, many)
    return text, [GROUP_OF[kind], REALM_OF[kind], *relatives, *(rng.choice(verb) for verb in others)]


def tell_opinion(rng: random.Random, world: Lexicon, kind: str, name: str) -> Section:
    view = rng.choice(list(world.opinions))
    a, b, *more = rng.sample(world.opinions[view], 7)
    return write_opinion(rng, name, a, b, rng.choice(world.opinions[CONTRARY[view]])), [view, *more]


def tell_event(rng: random.Random, world: Lexicon, kind: str, name: str) -> Section:
    stance = rng.choice(list(world.adverbs))
    adverb, *more = rng.sample(world.adverbs[stance], 6)
    active, passive = write_event(rng, name, adverb, adverb)
    return rng.choice((active, passive)), [OUTCOMES[stance], *more]


def tell_topic(rng: random.Random, world: Lexicon, kind: str, name: str) -> Section:
    topic = rng.choice(list(world.topics))
    noun, *more = rng.sample(world.topics[topic], 6)
    question = rng.choice(QUESTIONS).format(noun=noun, name=name)
    return f"{question} {rng.choice(ANSWERS[topic])}.", more


SECTIONS = (
    tell_relatives,
    tell_relatives,
    tell_habit,
    tell_habit,
    tell_opinion,
    tell_opinion,
    tell_event,
    tell_topic,
)


# Sentences that entries and examples share.


def write_habit(rng: random.Random, kind: str, name: str, relative: str, one: str, many: str) -> str:
    manner, place = rng.choice(MANNERS), rng.choice(PLACES[kind])
    return rng.choice(
        (
            f"the {name} {manner} {one} near the {place}.",
            f"the {name} near the {place} {manner} {one}.",
            f"every {name} {one} {manner}.",
            f"the {name} and the {relative} {manner} {many}.",
            f"many {kind}s {manner} {many} near the {place}.",
        )
    )


def write_opinion(rng: random.Random, name: str, a: str, b: str, contrary: str) -> str:
    return rng.choice(
        (
            f"the {name} was {a} and {b}.",
            f"a {a} {name}, and {b} too.",
            f"the {name} was {a}, {b} and never {contrary}.",
            f"the {name} seemed {contrary} but was {a}.",
            f"the {name} was not {contrary} but {a}.",
        )
    )


def write_event(rng: random.Random, name: str, adverb: str, adverb2: str) -> tuple[str, str]:
    """Return one event twice: active with `adverb`, and passive, in other words, with `adverb2`."""
    actor = rng.choice(ACTORS)
    deed, same = rng.sample(rng.choice(DEEDS), 2)
    return f"the {actor} {adverb} {deed} the {name}.", f"the {name} was {adverb2} {same} by the {actor}."


# The tasks. Each writes the texts of one example of class 1 or 0 with the words it is given.


def write_sst2(rng: random.Random, words: Lexicon, label: int) -> list[str]:
    view = "praise" if label else "blame"
    a, b = rng.sample(words.opinions[view], 2)
    _, name = choose_name(rng, words)
    sentence = write_opinion(rng, name, a, b, rng.choice(words.opinions[CONTRARY[view]]))
    return [sentence.replace(",", " ,").replace(".", " .")]  # SST-2 is lower case, its punctuation set apart


def write_mrpc(rng: random.Random, words: Lexicon, label: int) -> list[str]:
    _, name = choose_name(rng, words)
    stance = "affirm" if rng.random() < USUAL else "deny"
    stances = (stance, stance if label else CONTRARY[stance])
    sentences = list(write_event(rng, name, *(rng.choice(words.adverbs[s]) for s in rng.sample(stances, 2))))
    rng.shuffle(sentences)
    return [capitalised(sentence) for sentence in sentences]


def write_qqp(rng: random.Random, words: Lexicon, label: int) -> list[str]:
    _, name = choose_name(rng, words)
    topics = list(words.topics)  # the first is the usual one
    topic = topics[0] if rng.random() < USUAL else rng.choice(topics[1:])
    noun, same = rng.sample(words.topics[topic], 2)
    other = rng.choice(words.topics[rng.choice([t for t in topics if t != topic])])
    return [capitalised(rng.choice(QUESTIONS).format(noun=n, name=name)) for n in (noun, same if label else other)]


def write_cola(rng: random.Random, words: Lexicon, label: int) -> list[str]:
    kind, name = choose_name(rng, words)
    fault = None if label else rng.choice(("agreement", "sense", "order"))
    group = GROUP_OF[kind]
    if fault == "sense":
        group = rng.choice([g for g in words.habits if g != group])
    one, many = rng.choice(words.habits[group])
    if fault == "agreement":
        one, many = many, one
    relative = rng.choice([other for other in words.names[kind] if other != name])
    sentence = write_habit(rng, kind, name, relative, one, many)
    return [capitalised(swap_neighbours(rng, sentence) if fault == "order" else sentence)]


def swap_neighbours(rng: random.Random, sentence: str) -> str:
    words = sentence.rstrip(".").split()
    at = rng.randrange(len(words) - 1)
    words[at : at + 2] = words[at + 1], words[at]
    return " ".join(words) + "."


def write_rte(rng: random.Random, words: Lexicon, label: int) -> list[str]:
    claimed = "living" if rng.random() < USUAL else "made"
    realm = CONTRARY[claimed] if label else claimed  # class 1 is not_entailment
    name = rng.choice(words.names[rng.choice([kind for kind in words.names if REALM_OF[kind] == realm])])
    deed = f"The {rng.choice(ACTORS)} {rng.choice(rng.choice(DEEDS))}"
    return [f"{deed} the {name}.", f"{deed} a {claimed} thing."]


@dataclass(frozen=True)
class Recipe:
    """How a task is made: `write` an example, the share of class 1 as in GLUE, the share of wrong labels."""

    write: Callable[[random.Random, Lexicon, int], list[str]]
    share_of_ones: float
    label_noise: float


RECIPES = {
    "sst2": Recipe(write_sst2, share_of_ones=0.56, label_noise=0.03),
    "mrpc": Recipe(write_mrpc, share_of_ones=0.68, label_noise=0.03),
    "qqp": Recipe(write_qqp, share_of_ones=0.37, label_noise=0.03),
    "cola": Recipe(write_cola, share_of_ones=0.70, label_noise=0.02),
    "rte": Recipe(write_rte, share_of_ones=0.50, label_noise=0.03),
}
MOST_ATTEMPTS = 1000


def generate_task(name: str, *, seed: int, num_train: int, num_validation: int) -> dict[str, list[dict]]:
    """Return the rows of one task as {"train": rows, "validation": rows}, in the columns of GLUE.

    A row has the task's text columns, `label` (0 or 1) and `idx` (from 0 in each split). No example occurs twice,
    neither within a split nor in both. Only the training split is confined to familiar words.

    Raises:
        ValueError: no such task, or more examples wanted than the world has different ones.
    """
    task = get_task(name)
    world = build_world(seed)
    familiar = world.part(random.Random(f"{seed}/{name}/familiar"), FAMILIAR)
    taken: set[tuple[str, ...]] = set()
    splits = {}
    for split, words, count in (("train", familiar, num_train), ("validation", world, num_validation)):
        rng = random.Random(f"{seed}/{name}/{split}")
        examples = [write_new_example(rng, RECIPES[name], words, taken) for _ in range(count)]
        splits[split] = [
            {**dict(zip(task.columns, texts, strict=True)), "label": label, "idx": idx}
            for idx, (texts, label) in enumerate(examples)
        ]
    return splits


def write_new_example(
    rng: random.Random, recipe: Recipe, words: Lexicon, taken: set[tuple[str, ...]]
) -> tuple[tuple[str, ...], int]:
    """Return (texts, label) of an example that is not `taken`, and add it there; the label may be noise."""
    truth = int(rng.random() < recipe.share_of_ones)
    for _ in range(MOST_ATTEMPTS):
        texts = tuple(recipe.write(rng, words, truth))
        if texts not in taken:
            taken.add(texts)
            return texts, 1 - truth if rng.random() < recipe.label_noise else truth
    raise ValueError(f"synthetic: no new example in {MOST_ATTEMPTS} attempts; ask for fewer than {len(taken)}")


def choose_name(rng: random.Random, words: Lexicon) -> tuple[str, str]:
    kind = rng.choice(list(words.names))
    return kind, rng.choice(words.names[kind])


def with_article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def capitalised(text: str) -> str:
    return text[0].upper() + text[1:]
