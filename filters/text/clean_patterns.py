"""What is cut out of texts: patterns of RE2, each with what it leaves.

A pattern comes with a replacement in which `OPEN` and `CLOSE` hold what is cut. What was cut leaves
a `GAP`, which every pattern takes for white space: so the next cut is again a piece of the
original, and a text that was cut once has nothing left to cut. Words and names were compiled by
hand for Winnow. Captions that say "photo of", name an artist or quote a sign are content and stay.
"""

from functools import lru_cache
from pathlib import Path

SITES = Path(__file__).parents[1] / "data" / "site_names.txt"
GAP, OPEN, CLOSE = "\ue000", "\ue001", "\ue002"  # for private use: cut out of every text before
BLANKS = r"\s\pZ\v\x1c-\x1f\x{85}\x{200b}\x{feff}\x{e000}"

_S = f"[{BLANKS}]"
_WORD = f"[^{BLANKS}]"
# bars, bullets, angles, arrows
_BARS = r"|\x{a6}\x{2022}\x{b7}\x{2219}\x{25cf}\x{bb}\x{ab}\x{203a}\x{2039}\x{2192}\x{25ba}\x{25b6}"
_DASHES = r"\x{2013}-\x{2015}"
_STOPS = r"""[.!?\x{2026}"'\x{201d}\x{2019})\]]"""  # after which a new sentence begins

# between a caption and what was added to it: a bar wherever it is, a dash or the like between
# blanks
SEPARATOR = rf"(?:{_S}*(?:[{_BARS}]+|::+){_S}*|{_S}+(?:-+|[{_DASHES}~/:*]+){_S}+)"
_ANY_SEPARATOR = rf"(?:{SEPARATOR}|{_S}*[,;:{_DASHES}]{_S}*)"

# --- addresses and markup, anywhere

_TAGS = (
    "a|abbr|address|area|article|aside|audio|b|base|big|blockquote|body|br|button|caption|center|cite|code|col|dd|del|div|dl|dt|em|embed|"
    "fieldset|figcaption|figure|font|footer|form|frame|h[1-6]|head|header|hr|html|i|iframe|img|input|ins|kbd|label|li|link|main|mark|meta|"
    "nav|nobr|noscript|object|ol|option|p|param|picture|pre|q|s|samp|script|section|select|small|source|span|strike|strong|style|sub|sup|"
    "svg|table|tbody|td|textarea|tfoot|th|thead|time|title|tr|tt|u|ul|var|video|wbr"
)
_CODES = (
    "b|i|u|s|url|img|image|quote|code|size|color|colour|font|center|left|right|list|attach"
    "|attachment|youtube|spoiler|h[1-6]|email"
)
_SHORTCODES = (
    "caption|gallery|embed|video|audio|playlist|vc_[a-z_]+|et_pb_[a-z_]+|fusion_[a-z_]+"
    "|contact-form-7|su_[a-z_]+"
)
_TOP = (
    "com|org|net|info|biz|edu|gov|io|co|uk|de|fr|it|es|nl|ca|au|us|eu|ru|jp|in|ch|at|be|se|no|dk"
    "|fi|pl|cz|br|nz|ie|tv|me"
)
_DOMAIN = rf"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+(?:{_TOP})"
_OF_URL = rf'[^{BLANKS}<>"\[\]]'
_LAST_OF_URL = rf"""[^{BLANKS}<>"\[\](){{}}.,;:!?']"""
# what leads to an address and to nothing without it
_LEADING = "(?:at|on|via|visit|see|from|source:?)"
_EXTENSIONS = "jpe?g|jfif|png|gif|webp|bmp|tiff?|svg|heic|avif|cr2|nef|psd|pdf"
_FILE = rf"[^{BLANKS}<>|()\[\]]*[^{BLANKS}<>|()\[\].,;:]\.(?:{_EXTENSIONS})"


def _whole(pattern: str) -> tuple[str, str]:
    return pattern, rf"{OPEN}\0{CLOSE}"


ANYWHERE = (
    _whole(r"(?is)<(?:script|style)\b[^<>]*>.*?</(?:script|style)>|<!--.*?-->|<!\[CDATA\[|\]\]>"),
    _whole(rf"(?i)</?(?:{_TAGS})(?:{_S}[^<>]*)?/?>|<(?:img|a|div|span|iframe){_S}+[a-z-]+=[^<>]*$"),
    _whole(rf"(?i)\[/?(?:{_CODES})(?:=[^\[\]]*)?\]|\[/?(?:{_SHORTCODES})(?:{_S}[^\[\]]*)?\]"),
    (r"(!?\[)([^\[\]]*)(\]\([^()]*\))", rf"{OPEN}\1{CLOSE}\2{OPEN}\3{CLOSE}"),
    (r"(\[\[(?:[^\[\]|]*\|)*)([^\[\]|]*)(\]\])", rf"{OPEN}\1{CLOSE}\2{OPEN}\3{CLOSE}"),
    _whole(r"(?s)\{\{[^{}]*\}\}|\{%[^{}]*%\}|<%[^<>]*%>|\$\{[^{}]*\}|<\?[^<>]*\?>"),
    _whole(
        rf"(?i)(?:\b{_LEADING}{_S}+)?\b(?:(?:https?|ftp)://(?:{_OF_URL}*{_LAST_OF_URL})?/?|(?:www\.|{_DOMAIN}/){_OF_URL}*{_LAST_OF_URL})"
    ),
    _whole(rf"(?i)\b(?:mailto:)?[\pL\pN._%+-]+@{_DOMAIN}\b"),
    (r"(\*\*|__|~~|`)([\pL\pN][^*_~`]*)(\*\*|__|~~|`)", rf"{OPEN}\1{CLOSE}\2{OPEN}\3{CLOSE}"),
    (
        rf"(^|{_S})(\*)([\pL\pN][^*]*[\pL\pN.!?])(\*)({_S}|$)",
        rf"\1{OPEN}\2{CLOSE}\3{OPEN}\4{CLOSE}\5",
    ),
    _whole(rf"^{_S}*#{{1,6}}{_S}+"),
)

# --- signs that repeat

REPEATED = (
    (r"(!)(!+)", rf"\1{OPEN}\2{CLOSE}"),
    (r"(\?)(\?+)", rf"\1{OPEN}\2{CLOSE}"),
    (r"(\.\.\.|\x{2026})([.\x{2026}]+)", rf"\1{OPEN}\2{CLOSE}"),
    (rf"(,)((?:{_S}*,)+)", rf"\1{OPEN}\2{CLOSE}"),
    (rf"([{_BARS}])((?:{_S}*[{_BARS}])+)", rf"\1{OPEN}\2{CLOSE}"),
    (rf"([-{_DASHES}])([-{_DASHES}]{{2,}})", rf"\1{OPEN}\2{CLOSE}"),
    _whole(r"={2,}|~{2,}|_{2,}|\*{3,}|\^{2,}|\\{2,}|/{3,}"),
    _whole(rf"""\({_S}*\)|\[{_S}*\]|\{{{_S}*\}}|<{_S}*>|"{_S}*"|\x{{201c}}{_S}*\x{{201d}}"""),
)

# --- what stands before and behind a caption


def _phrase(words: str) -> str:
    """Words with any blanks between them."""
    return words.replace(" ", f"{_S}+")


_SHOWN = "image|photo|photograph|picture|pic"
_COUNTED = (
    rf"(?:(?:gallery|product|article|slider){_S}+)?(?:{_SHOWN}|img|slide|figure|fig\.?|plate|thumbnail|view)"
    rf"{_S}*(?:#|no\.?|number)?{_S}*\d{{1,4}}"
)
_OF_HOW_MANY = rf"{_S}*(?:/|{_S}(?:out{_S}+)?of{_S}){_S}*\d{{1,4}}"
_STOCK = (
    _phrase(
        r"(?:(?:royalty(?:-| )free|rights(?:-| )managed|editorial|premium|free|hi-?res|high(?:-|"
        r" )res(?:olution)?) )*"
        r"(?:stock (?:photos?|images?|pictures?|photography|vectors?|illustrations?|clip(?:"
        r" |)art|footage|videos?)|royalty(?:-"
        r"| )free (?:photos?|images?|pictures?))"
        r"(?: (?:and|&) (?:photos|images|pictures|photography|vectors|illustrations))?"
    )
    + rf"(?:{_S}*(?:#|id:?|no\.?)?{_S}*\d{{4,12}})?"
)
_CLICK = _phrase(
    r"(?:please )?(?:click|tap|press|hover)(?:"
    r" (?:here|on|over|the|this|image|photo|picture|thumbnail|pic|it|below|above))*"
    r"(?: here| (?:to|for|and)(?:"
    r" (?:a|an|the|it|see|view|enlarge|zoom|expand|open|download|get|read|full|larger|large|bigger"
    r"|big"
    r"|original|size|sized|"
    r"full-size|fullsize|full-sized|high|higher|hi-res|resolution|version|more|details|detail|info|information|image|images|photo"
    r"|photos|picture|"
    r"pictures|screen|fullscreen|in|new|window|tab|magnify|gallery|slideshow|play|watch|video|listen|up|close-up|caption|view|launch"
    r"|show|of|this|to))+)"
)
_VIEW = _phrase(
    r"(?:view|see|show|open|download|get)(?: the| this| a| in)?"
    r" (?:larger|large|bigger|full|full-size|full-sized|fullsize|original"
    r"|high-res|hi-res|high)"
    r"(?: (?:size|screen|resolution|image|photo|picture|version|map))*|enlarge(?: (?:this|the))?(?:"
    r" (?:image|photo|picture|map))?"
    r"|(?:opens|open) (?:in )?(?:a )?new (?:tab|window)|zoom in|zoom|view"
    r" (?:gallery|slideshow|details|image|photo)"
    r"|(?:read|learn|see|view|show|find out|load) more(?: about this)?|continue reading|more"
    r" (?:info|information|details)"
    r"|(?:buy|shop|order|book|apply|download|subscribe|register) (?:now|online|today)|add to"
    r" (?:cart|basket|bag|wishlist)|free shipping"
    r"|(?:share|save|pin|like|follow us|tweet)(?: this| it)? (?:on|to)"
    r" (?:facebook|twitter|pinterest|instagram|x|linkedin)|pin it"
    r"|(?:watch|play) (?:the |this )?video|advertisement|all rights reserved|no copyright"
    r" infringement intended"
)
_AGENCY = (
    r"(?:AP|AFP|EPA|EFE|PA|UPI|Xinhua|Reuters|REUTERS|Getty(?:[\s\x{e000}]+Images)?|Handout"
    r"|Shutterstock|iStock|Alamy|Rex|REX)"
)
_MADE = (
    r"(?:photos?|photographs?|photography|photographer|photographed|images?|pictures?|pics?|illustrations?|illustrated|illustrator"
    r"|artwork|graphics?|"
    r"screenshots?|video|renderings?|cover|credits?|sources?|courtesy|copyright)"
)
_NAME = (
    rf"(?:[\p{{Lu}}\pN@\x{{a9}}&/|+\x{{2013}}-]{_WORD}*|(?:of|the|and|for|de|van|von|der|den|la|le"
    rf"|du|via|in|by|at|to|from){_S})"
)
_NAMES = rf"{_NAME}(?:{_S}*{_NAME})*[.,]*"
_CREDIT_OPENS = (
    rf"(?:(?i:(?:(?:file|stock|handout|archive|cover|header|featured|feature|hero|screen|top|main){_S}+)?{_MADE}(?:{_S}+(?:credits?"
    rf"|courtesy|source|copyright))?)"
    rf"(?:{_S}*(?::|\x{{a9}}|\((?i:c)\)){_S}*|{_S}+(?i:by|courtesy|via|\x{{a9}}){_S}*:?{_S}+)(?i:(?:by|of|the){_S}+)*"
    rf"|(?i:courtesy){_S}+(?:(?i:of){_S}+)?|{_AGENCY}(?:{_S}+(?i:photo|images?|pictures?|file))?{_S}*/{_S}*)"
)
_OWNER = (
    rf"(?:(?:19|20)\d\d|(?i:all|rights|reserved|inc|ltd|llc|photo|photos|photography|images?"
    rf"|pictures|{_DOMAIN})\b|{_NAME})[.,]*"
)
_CLAIMED = (
    rf"(?i:(?:{_SHOWN}|all{_S}+images|images|photos){_S}+)?(?:(?i:copyright){_S}*)?(?:\x{{a9}}|\((?i:c)\)){_S}*[^{BLANKS}"
    rf"|]+(?:{_S}*(?:[|{_DASHES}-]{_S}*)?{_OWNER})*"
    rf"|(?i:copyright){_S}+(?:(?i:by|of){_S}+)?(?:{_S}*{_OWNER})+"
)


def _ends_with(body: str) -> tuple[str, str]:
    """A sentence of its own, or behind a separator, at the end of the text."""
    return (
        rf"(?:(^|{_STOPS}{_S}+)|({_ANY_SEPARATOR}))({_S}*(?:{body})[.!]*){_S}*$",
        rf"\1{OPEN}\2\3{CLOSE}",
    )


def _ends_loosely_with(body: str) -> tuple[str, str]:
    """At the end of the text, with or without a separator."""
    return (
        rf"(^|{_STOPS}{_S}+)?((?:{_ANY_SEPARATOR}|{_S}+|^)(?:{body})[.!]*){_S}*$",
        rf"\1{OPEN}\2{CLOSE}",
    )


def _begins_with(body: str, then: str) -> tuple[str, str]:
    return _whole(rf"^{_S}*(?:{body}){then}")


def _in_brackets(body: str) -> tuple[str, str]:
    return _whole(rf"[(\[]{_S}*(?:{body}){_S}*[.!]?{_S}*[)\]]")


@lru_cache(maxsize=1)
def site_names() -> tuple[str, ...]:
    """Known names of sites and agencies in lower case."""
    lines = (line.strip() for line in SITES.read_text(encoding="utf-8").splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def _escaped(name: str) -> str:
    return "".join(
        f"{_S}+" if sign == " " else rf"\{sign}" if not sign.isalnum() else sign for sign in name
    )


_SITES = "|".join(_escaped(name) for name in sorted(site_names(), key=len, reverse=True))
_SITE = (
    rf"(?i:(?:on|via|from|by|at|in){_S}+)?(?i:{_SITES}|{_DOMAIN})(?:{_S}*[\x{{ae}}\x{{2122}}!.])?"
)
_BEFORE = rf"{_S}*(?:[:{_BARS}{_DASHES}]|-{_S}){_S}*"
_TAG = r"#[\pL\pN_]*\pL[\pL\pN_]*"
_JOINING = (
    "a|an|the|my|our|your|his|her|their|its|this|of|in|on|at|with|and|or|to|for|from|by|is|are"
)

AT_THE_ENDS = (
    _in_brackets(
        rf"(?i:{_CLICK}|{_VIEW}|{_STOCK}|{_COUNTED}(?:{_OF_HOW_MANY})?|\d{{1,3}}{_S}+of{_S}+\d{{1,3}})"
    ),
    _in_brackets(
        rf"{_CREDIT_OPENS}[^()\[\]]*|{_CLAIMED}|(?i:(?:courtesy|file|ap|stock|handout|supplied|submitted){_S}+photos?|\x{{a9}}[^()\[\]]*)"
    ),
    _in_brackets(
        rf"{_AGENCY}|(?i:{_FILE}|{_DOMAIN}|\d{{3,5}}{_S}?[x\x{{d7}}]{_S}?\d{{3,5}}(?:{_S}?px)?)"
    ),
    _ends_with(rf"(?:{_CREDIT_OPENS}{_NAMES}|{_CLAIMED})"),
    _ends_loosely_with(
        rf"(?:\x{{a9}}|\((?i:c)\)){_S}*[^{BLANKS}|]+(?:{_S}*{_OWNER})*|(?i:all{_S}+rights{_S}+reserved)"
    ),
    _ends_with(rf"(?i:{_VIEW}|{_COUNTED}(?:{_OF_HOW_MANY})?)"),
    _ends_loosely_with(rf"(?i:{_CLICK}|{_STOCK}|{_COUNTED}{_OF_HOW_MANY})"),
    _whole(rf"(?:{SEPARATOR}|{_S}*,{_S}+){_SITE}{_S}*$"),
    _ends_loosely_with(rf"(?i:{_FILE})"),
    _ends_loosely_with(rf"(?i:by|via|from|cc){_S}*:?{_S}*@[\pL\pN_.]+|@[\pL\pN_.]{{3,}}"),
    _begins_with(rf"(?i:{_CLICK}|{_VIEW}|{_STOCK})", _BEFORE),
    _begins_with(rf"(?i:{_COUNTED}(?:{_OF_HOW_MANY})?)", rf"(?:{_BEFORE}|\.{_S}+)"),
    _begins_with(rf"(?i:{_COUNTED}{_OF_HOW_MANY})", rf"{_S}*$"),
    _begins_with(
        rf"(?i:{_SHOWN}|img|alt(?:-| )?text|alt|caption|description|title|illustration|thumbnail)",
        rf"{_S}*:{_S}+",
    ),
    _begins_with(rf"(?i:{_FILE})", rf"(?:{_BEFORE}|{_S}+)"),
    (
        (
            rf"(?i)^({_S}*(?:royalty(?:-|"
            rf" )free{_S}+)?stock{_S}+)((?:photo|image|picture|vector|illustration)s?{_S}+of\b)"
        ),
        rf"{OPEN}\1{CLOSE}\2",
    ),
    (rf"(?i)\b((?:{_JOINING}){_S}+)(#)(\pL)", rf"\1{OPEN}\2{CLOSE}\3"),
    _whole(rf"(?:(?:^|{_S}){_S}*{_TAG}[,;.]?)+{_S}*$"),
    (rf"(^|{_S})(#)(\pL)", rf"\1{OPEN}\2{CLOSE}\3"),
    _whole(rf"^(?:{_S}*(?:[{_BARS}~=;,\\^]+|[-{_DASHES}*+/:.>]+{_S})){{1,20}}"),
    _whole(rf"(?:{_S}*(?:[{_BARS}~=;,:\\^<(\[{{]+|{_S}[-{_DASHES}*+/>]+))+{_S}*$"),
)
_EMPTY = (  # words that stand for a picture, or for none
    r"(?:(?:an?|the|this|my|our|no)"
    r" )?(?:image|photo|photograph|picture|pic|img|logo|icon|thumbnail|thumb|banner|avatar"
    r"|placeholder"
    r"|spacer|graphic|screenshot)s?"
    r"(?: (?:of|for|with|by)(?: (?:an?|the|this|my|our))?| (?:not"
    r" )?(?:available|found|unavailable)| here| goes here| \d+)?"
    r"|untitled|no caption|no"
    r" title|blank|loading|null|undefined|nan|none|n/a|default|sponsored|ad|ads|advertisements?"
    r"|alt(?:ernative)?"
    r" text|caption|description|title|menu|search|close|next|previous|prev|back|share|print|email"
    r"|home|homepage|header"
    r"|footer|follow us"
)
EMPTY = (
    _whole(rf"^(?:[^\pL\pM\pN]*[^\pL\pM\pN{BLANKS}][^\pL\pM\pN]*)$"),
    _whole(rf"(?i)^[^\pL\pN]*(?:{_phrase(_EMPTY)})[^\pL\pN]*$"),
)
RULES = (*ANYWHERE, *REPEATED, *AT_THE_ENDS, *EMPTY)
