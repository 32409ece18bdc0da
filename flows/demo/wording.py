"""Texts that are wrong for a picture, each composed from parts, so that no list of sentences can be
learned by heart.
"""

# ruff: noqa: RUF001 - one of the languages is written in Cyrillic

from random import Random

_CAMERAS = ("IMG_", "DSCN", "DSC_", "PXL_", "MVI_", "GOPR", "_MG_", "R00", "SAM_", "100_")
_SUBJECTS = (
    "sunset",
    "garden",
    "trip",
    "holiday",
    "market",
    "harbor",
    "birthday",
    "kitchen",
    "album",
    "weekend",
)
_STATES = ("final", "edit", "new", "v2", "web", "large", "crop", "resized", "export", "copy")
_SUFFIXES = (".jpg", ".JPG", ".jpeg", ".png", ".JPEG")

_ACTIONS = ("Click", "Tap", "Press", "Click here", "Hover")
_AIMS = (
    "to enlarge",
    "to zoom in",
    "for full size",
    "to see the gallery",
    "for more details",
    "to view slideshow",
)
_SITES = ("Facebook", "Pinterest", "Twitter", "WhatsApp", "Tumblr", "Reddit")
_OWNERS = (
    "Northlight Media",
    "Harbour Press",
    "Blue Fern Studio",
    "Orchard Lane",
    "Kestrel & Sons",
    "Quiet Pixel",
)
_WARES = (
    "sneakers",
    "handbags",
    "sofas",
    "headphones",
    "sunglasses",
    "mattresses",
    "watches",
    "rugs",
)
_OFFERS = (
    "free shipping",
    "limited stock",
    "order today",
    "best price guaranteed",
    "buy online now",
    "next day delivery",
)
_HOLDERS = (
    "image",
    "photo",
    "picture",
    "thumbnail",
    "placeholder",
    "banner",
    "logo",
    "icon",
    "untitled",
    "default alt text",
)

_SEASONS = ("spring", "summer", "autumn", "winter", "new year", "anniversary")
_EVENTS = (
    "newsletter",
    "open day",
    "members evening",
    "craft fair",
    "reading week",
    "volunteer meeting",
)
_SHOWN = (
    "Highlights from our",
    "Impressions of the",
    "More pictures of the",
    "A look back at our",
    "Selected moments from the",
)

_VAGUE = ("Something", "One", "A thing", "Another one", "Just something")
_LIKED = ("pretty", "nice", "cute", "lovely", "cool")
_WHENCE = ("from today", "I found", "we liked", "for you", "from my phone")

# (who, what they do, where) of one language each; any combination is a grammatical sentence
_LANGUAGES = (
    (
        ("Ein kleiner Hund", "Eine alte Frau", "Der junge Mann", "Unser Nachbar"),
        ("wartet geduldig", "sitzt schon lange", "schläft friedlich", "spielt fröhlich"),
        (
            "vor dem großen Bahnhof",
            "auf der Bank im Garten",
            "am Ufer des Flusses",
            "neben dem grünen Haus",
        ),
    ),
    (
        ("Un petit garçon", "Une vieille dame", "Le voisin d'en face", "Notre chat gris"),
        (
            "attend tranquillement",
            "dort depuis longtemps",
            "mange une pomme",
            "regarde les bateaux",
        ),
        (
            "devant la gare du village",
            "au bord de la rivière",
            "dans le jardin derrière la maison",
            "sous les arbres de la place",
        ),
    ),
    (
        ("Un perro pequeño", "Una mujer mayor", "El joven pintor", "Nuestra vecina"),
        ("espera con paciencia", "duerme tranquilamente", "canta una canción", "mira los barcos"),
        (
            "delante de la estación",
            "a la orilla del río",
            "en el jardín de la casa",
            "debajo de los árboles de la plaza",
        ),
    ),
    (
        ("Un piccolo cane", "Una vecchia signora", "Il giovane pittore", "La nostra vicina"),
        ("aspetta con pazienza", "dorme da molte ore", "mangia una mela", "guarda le barche"),
        (
            "davanti alla stazione",
            "sulla riva del fiume",
            "nel giardino della casa",
            "sotto gli alberi della piazza",
        ),
    ),
    (
        ("Een kleine hond", "Een oude vrouw", "De jonge schilder", "Onze buurman"),
        ("wacht geduldig", "slaapt al uren", "zit heel rustig", "speelt vrolijk"),
        (
            "voor het oude station",
            "aan de oever van de rivier",
            "in de tuin achter het huis",
            "onder de bomen op het plein",
        ),
    ),
    (
        ("Mały pies", "Stary sąsiad", "Młody malarz", "Nasz szary kot"),
        ("czeka cierpliwie", "śpi od dawna", "siedzi spokojnie", "patrzy na łodzie"),
        (
            "przed starym dworcem",
            "nad brzegiem rzeki",
            "w ogrodzie za domem",
            "pod drzewami na rynku",
        ),
    ),
    (
        ("En liten hund", "En gammal kvinna", "Den unge målaren", "Vår granne"),
        ("väntar tålmodigt", "sover sedan länge", "sitter alldeles stilla", "tittar på båtarna"),
        (
            "framför den gamla stationen",
            "vid stranden av floden",
            "i trädgården bakom huset",
            "under träden på torget",
        ),
    ),
    (
        ("Маленький щенок", "Старый сосед", "Молодой художник", "Наш серый кот"),
        ("терпеливо ждёт", "давно спит", "тихо сидит", "смотрит на лодки"),
        (
            "перед старым вокзалом",
            "на берегу широкой реки",
            "в саду за домом",
            "под деревьями на площади",
        ),
    ),
    (
        ("小さな犬が", "近所の人が", "若い画家が", "灰色の猫が"),
        ("静かに", "ずっと前から", "楽しそうに", "一人で"),
        (
            "古い駅の前で待っている",
            "川の岸で船を見ている",
            "家の庭で眠っている",
            "広場の木の下に座っている",
        ),
    ),
)

_WALKERS = ("We", "The others", "My sister and I", "Both of us", "Everyone", "Our guide")
_WALKED = (
    "stayed longer than planned",
    "took the late bus back",
    "talked about it for days",
    "had to wait for the rain to stop",
    "wrote it all down in the evening",
    "promised to return next year",
)
_BECAUSE = (
    "since nobody was in a hurry",
    "although the forecast was poor",
    "because the road was closed",
    "as we usually do in May",
    "while the shops were shut",
    "before the season ended",
)


def file_name(rng: Random) -> str:
    """A name that a camera, a telephone, an editor or a content system gave to a file."""
    year, month, day = rng.randint(2004, 2025), rng.randint(1, 12), rng.randint(1, 28)
    forms = (
        f"{rng.choice(_CAMERAS)}{rng.randint(1, 9999):04d}{rng.choice(_SUFFIXES)}",
        f"{rng.choice(_CAMERAS)}{rng.randint(1, 9999):04d}",
        f"{rng.choice(_SUBJECTS)}-{rng.choice(_SUBJECTS)}-{year}-{rng.choice(_STATES)}{rng.choice(_SUFFIXES)}",
        f"{year}{month:02d}{day:02d}_{rng.randint(0, 235959):06d}{rng.choice(_SUFFIXES)}",
        f"{rng.getrandbits(64):016x}_{rng.choice(_STATES)}{rng.choice(_SUFFIXES)}",
        (
            f"Screen Shot {year}-{month:02d}-{day:02d} at"
            f" {rng.randint(1, 12)}.{rng.randint(0, 59):02d}.{rng.randint(0, 59):02d}.png"
        ),
    )
    return rng.choice(forms)


def boilerplate(rng: Random) -> str:
    """A text of the page's machinery or its shop: it says nothing about the picture."""
    forms = (
        f"{rng.choice(_ACTIONS)} {rng.choice(_AIMS)}",
        f"Share on {rng.choice(_SITES)} | Share on {rng.choice(_SITES)}",
        f"© {rng.randint(2001, 2025)} {rng.choice(_OWNERS)}. All rights reserved",
        (
            f"{rng.choice(_WARES).upper()} {5 * rng.randint(2, 16)}% OFF | {rng.choice(_OFFERS)} |"
            f" {rng.choice(_OFFERS)}"
        ),
        f"{rng.choice(_HOLDERS)} {rng.randint(1, 40)}",
        f"{rng.choice(_HOLDERS)}",
        f"https://{rng.choice(_SUBJECTS)}.example/?ref={rng.getrandbits(24):06x}",
        (
            f"{rng.choice(_WARES)}, {rng.choice(_WARES)}, cheap {rng.choice(_WARES)},"
            f" {rng.choice(_WARES)} sale, {rng.choice(_WARES)}"
        ),
    )
    return rng.choice(forms)


def foreign(rng: Random) -> str:
    """A sentence in one of nine languages, none of them English."""
    who, does, where = rng.choice(_LANGUAGES)
    gap = "" if who[0].endswith("が") else " "
    return gap.join((rng.choice(who), rng.choice(does), rng.choice(where)))


def shared(rng: Random) -> str:
    """A good English phrase that a site puts under many pictures."""
    return (
        f"{rng.choice(_SHOWN)} {rng.choice(_SEASONS)} {rng.choice(_EVENTS)}"
        f" {rng.randint(2011, 2025)}"
    )


def vague(rng: Random) -> str:
    """A short text that fits every picture, and so says less than the caption of the same bytes
    elsewhere.
    """
    return f"{rng.choice(_VAGUE)} {rng.choice(_LIKED)} {rng.choice(_WHENCE)}"


def label(rng: Random) -> str:
    """What stands under a figure that is only numbered."""
    return f"{rng.choice(('Fig.', 'Plate', 'Figure', 'No.'))} {rng.randint(1, 99)}"


def prose(rng: Random) -> str:
    """A sentence between the pictures that has nothing to do with them."""
    return f"{rng.choice(_WALKERS)} {rng.choice(_WALKED)}, {rng.choice(_BECAUSE)}."


def title(rng: Random) -> str:
    """The heading of a page."""
    return f"Notes on the {rng.choice(_SEASONS)} {rng.choice(_EVENTS)}"
