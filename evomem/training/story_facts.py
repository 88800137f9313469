"""The topics and wordings of generated life stories; `stories` generates the stories."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Slot:
    """Something in a life that changes, with the wordings of statements and questions about it."""

    values: tuple[str, ...]
    told: tuple[str, ...]
    """How it is said the first time; `{v}` is the value. First person."""
    changed: tuple[str, ...]
    """Wordings of a new value."""
    asked: tuple[str, ...]
    """A question in the present, third person: `{S}`, `{P}`; `{now}` takes a word of time."""
    noun: str
    """A name for it, such as "job"."""
    hint: str
    """Questions that the other person asks for a short answer."""


def _slot(noun: str, values: str, told: str, changed: str, asked: str, hint: str) -> Slot:
    def cut(text: str) -> tuple[str, ...]:
        return tuple(part.strip() for part in text.split("|"))

    return Slot(cut(values), cut(told), cut(changed), cut(asked), noun, hint)


SLOTS = (
    _slot(
        "home",
        "Bergen|Lyon|a flat in Porto|Graz|a village near Siena|Leeds|Tampere|Austin|a studio in Ghent|Kyoto|Halifax|the coast at Brighton",
        "I live in {v}.|I've got a place in {v}, not big but bright.|Greetings from {v}, that's where I'm based.|I grew up elsewhere, but {v} is home.",
        "Guess what, I moved to {v}!|The boxes are finally unpacked, we're in {v} from this week.|I gave up the old place and rent in {v} these days.|Well, it's {v} for me from here on. The rent got too high where I was.",
        "Where does {S} live{now}?|In which place is {P} home{now}?|What city does {S} call home{now}?",
        "Where are you living?",
    ),
    _slot(
        "job",
        "nurse|barista|data analyst|carpenter|school librarian|bus driver|tax adviser|game designer|baker|lab technician|florist|translator",
        "I work as a {v}.|By day I'm a {v}, it pays the bills.|My job as a {v} keeps me busy.",
        "I quit! Starting as a {v} on Monday.|Big step: I got hired as a {v}.|The old job was wearing me out, I'm a {v} these days.|They offered me a post as {v} and I said yes.",
        "What is {P} job{now}?|What does {S} do for a living{now}?|What kind of work does {S} do{now}?",
        "What do you do for work?",
    ),
    _slot(
        "car",
        "an old Volvo|a red Mini|a Toyota hybrid|a camper van|a used Skoda|an electric Fiat|a pickup truck|a blue Beetle",
        "I drive {v}.|My ride is {v}, nothing fancy.|We use {v} to get around.",
        "I sold it and bought {v}.|The garage gave up on it, so I drive {v} instead.|New wheels! It's {v}.",
        "What car does {S} drive{now}?|Which vehicle does {S} have{now}?",
        "What do you drive?",
    ),
    _slot(
        "favourite food",
        "ramen|lasagne|pierogi|fish tacos|dal|mushroom risotto|bibimbap|moussaka|falafel|dumplings",
        "My favourite dish is {v}.|I could eat {v} every day.|Nothing beats {v}, honestly.",
        "I can't look at it anymore, I'm all about {v} these days.|My taste has changed: {v} is my top dish.|I have found something better: {v}!",
        "What is {P} favourite dish{now}?|Which food does {S} like best{now}?",
        "What do you like to eat most?",
    ),
    _slot(
        "sport",
        "climbing|swimming|judo|running|badminton|rowing|yoga|cycling|basketball|fencing|skiing",
        "I do {v} twice a week.|{v} is how I keep fit.|I'm into {v}.",
        "My knee is done with that, I took up {v}.|I switched to {v} and love it.|No more of that, {v} is my thing these days.",
        "What sport does {S} do{now}?|How does {S} keep fit{now}?",
        "Do you do any sport?",
    ),
    _slot(
        "partner",
        "Milo|Teresa|Jun|Alina|Bastian|Farah|Otto|Lucia|Theresa|Niklas",
        "I'm seeing someone, {v}.|{v} and I have been together for a while.|My partner {v} is a great cook.",
        "We split up, and well, I met {v}.|It did not last. I'm dating {v}.|There is somebody new: {v}.",
        "Who is {S} dating{now}?|What is the name of {P} partner{now}?",
        "Is there someone in your life?",
    ),
    _slot(
        "phone plan",
        "12 euros a month|the family plan|25 dollars a month|prepaid|the student rate|40 pounds a month",
        "My phone costs me {v}.|For the phone I'm on {v}.",
        "I changed provider, it's {v}.|They put me on {v}.",
        "What does {S} pay for the phone{now}?|Which phone plan does {S} have{now}?",
        "What do you pay for your phone?",
    ),
    _slot(
        "running time",
        "31 minutes|28:40|27 and a half minutes|26:15|25:50|24:30|23 minutes flat",
        "My best 5K so far is {v}.|I ran the 5K in {v}.",
        "New personal best: {v} over 5K!|I shaved some seconds off my 5K, {v}.",
        "What is {P} best 5K time{now}?|How fast is {P} 5K{now}?",
        "How fast do you run 5K?",
    ),
    _slot(
        "book",
        "Middlemarch|a history of salt|Dune|a book on bees|The Name of the Rose|Beloved|a thriller set in Oslo|Emma|a life of Darwin",
        "I'm reading {v}.|On my bedside table: {v}.",
        "Finished that one, next is {v}.|I put it away and started {v}.",
        "What book is {S} reading{now}?|Which book does {S} have on the go{now}?",
        "Reading anything good?",
    ),
    _slot(
        "wake-up time",
        "5:30|half past six|seven|7:45|eight|nine",
        "I get up at {v}.|My alarm rings at {v}.",
        "New schedule, I get up at {v}.|I moved my alarm to {v}.",
        "When does {S} get up{now}?|At what time does {P} alarm ring{now}?",
        "When do you get up?",
    ),
    _slot(
        "number of plants",
        "three plants|five plants|nine plants|twelve plants|two dozen plants|one lonely cactus",
        "I have {v} at home.|On my balcony there are {v}.",
        "The collection has changed, it's {v}.|Counting again: {v}.",
        "How many plants does {S} have{now}?|What is the size of {P} plant collection{now}?",
        "How is your little jungle?",
    ),
    _slot(
        "instrument",
        "the cello|drums|the ukulele|jazz piano|the oboe|bass guitar|the accordion",
        "I play {v}.|I practise {v} most evenings.",
        "I traded it in and learn {v}.|My new teacher shows me {v}.",
        "Which instrument does {S} play{now}?|What music does {S} practise{now}?",
        "Do you play music?",
    ),
    _slot(
        "project at work",
        "the budget dashboard|a new booking page|the data migration|a chat bot|the audit report|the mobile app",
        "At work I'm busy with {v}.|My team builds {v}.",
        "They moved me to {v}.|I handed that over, my task is {v}.",
        "What does {S} work on{now}?|Which project keeps {O} busy{now}?",
        "What are you working on?",
    ),
    _slot(
        "deadline",
        "March 3|the end of May|June 12|the first week of July|September 20|early November",
        "The project is due on {v}.|My deadline is {v}.",
        "The deadline was moved to {v}.|We got another date: {v}.",
        "When is {P} deadline{now}?|By when must {S} be done{now}?",
        "When is it due?",
    ),
)

EVENTS = (
    (
        "went to {x}",
        "go to {x}",
        "a jazz concert|the aquarium|a pottery fair|the dentist|a wedding in Malta|the county museum|an escape room|a food festival",
    ),
    (
        "adopted {x}",
        "adopt {x}",
        "a grey kitten|a retired greyhound|two guinea pigs|a parrot|a stray dog",
    ),
    ("lost {x}", "lose {x}", "my keys|a bet|my passport|an earring|the blue umbrella"),
    ("baked {x}", "bake {x}", "a carrot cake|sourdough|a lemon tart|cinnamon buns"),
    ("fixed {x}", "fix {x}", "the kitchen tap|an old radio|the garden fence|a flat tyre"),
    (
        "signed up for {x}",
        "sign up for {x}",
        "a Spanish course|a marathon|a choir|a first-aid class|pottery lessons",
    ),
    (
        "bought {x}",
        "buy {x}",
        "a telescope|a second-hand sofa|hiking boots|a sewing machine|a record player",
    ),
    ("met {x}", "meet {x}", "an old classmate|our new neighbour|a famous chef|a cousin from Chile"),
    (
        "painted {x}",
        "paint {x}",
        "a sunset|the hallway green|a portrait of my aunt|a mural at school",
    ),
)
TIMES = (
    "yesterday|last Friday|two weeks ago|last year|in 2019|last summer|on Sunday|recently|in early May|"
    "the week before last|for the first time|last night|back in March|on my birthday"
).split("|")
DETAILS = (
    "It rained all day.|My sister came along.|It cost me 40 euros.|I still can't believe it.|It took three hours.|"
    "My boss was there too.|I was so nervous.|The food was awful.|We laughed a lot.|I'd do it again."
).split("|")
THINGS = (
    ("hotel", "the Lakeside|the Old Mill|Casa Verde|the Grand"),
    ("restaurant", "Luigi's|the Thai place|Blue Door|a small bistro"),
    ("colour for the walls", "sage green|dusty pink|navy|cream"),
    ("film", "the heist movie|the documentary|the French comedy|the old western"),
    ("present for mum", "a scarf|a voucher|a photo book|earrings"),
    ("flight", "the 7 am flight|the night flight|the one via Madrid|the direct one"),
    ("name for the boat", "Pelican|Second Wind|Marta|Dolphin"),
)
PETS = ("cat", "dog", "rabbit", "hamster", "pony", "parrot")
PET_NAMES = ("Miso", "Biscuit", "Luna", "Pepper", "Waffles", "Ziggy", "Clover", "Nugget")
PET_FACTS = (
    ("hates {v}", "hate", "the vacuum cleaner|thunder|the vet|baths"),
    ("sleeps {v}", "sleep", "on the radiator|under my bed|in the laundry basket|on the sofa"),
    ("eats {v}", "eat", "only salmon|carrots for breakfast|half of my toast|grass"),
    ("turned {v}", "turn", "four|nine|two|eleven"),
)
SMALL_TALK = (
    "How was your day?|Not bad, thanks!|That sounds great.|Oh no, I'm sorry to hear that.|Haha, typical!|"
    "What a week.|Did you watch the game?|I need more coffee.|It's been raining non-stop here.|"
    "Any plans for the weekend?|Just relaxing, nothing special.|Same here.|Good to hear from you!|"
    "I should go to bed soon.|Can you recommend a podcast?|Sure, let me think about it.|You're right about that.|"
    "Could you help me write an email?|Of course. Who is it for?|Thanks, that helps a lot.|"
    "What's a good recipe for tonight?|How about a quick pasta with lemon?|I'll try that.|"
    "Tell me something interesting.|Octopuses have three hearts.|Wow, I didn't know that.|"
    "The traffic was terrible this morning.|I can imagine.|Let's talk tomorrow.|Take care!|"
    "Sorry for the late reply.|No worries at all.|Have you tried turning it off and on again?|It works, thank you!|"
    "I'm so tired today.|Get some rest then.|What do you think about it?|I think it's worth a try.|"
    "My neighbour is playing loud music again.|That must be annoying."
).split("|")
