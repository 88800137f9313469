"""Follow-ups that say nothing without the turn before them, told again after another turn.

"We bought the red sofa." "It arrives on Friday." The same words follow on something else later in the
history, so that only the antecedent tells which of the two turns answers "When does the sofa arrive?".
"""

from __future__ import annotations

from random import Random

from evomem.training.histories import History
from evomem.training.names import Person, cast
from evomem.training.story_facts import SMALL_TALK

THINGS = (
    "the red sofa|the bread machine|the garden shed|the tablet|the bookshelf|the mountain bike|the "
    "coffee grinder|the winter jacket|the aquarium|the guitar|the freezer|the hiking boots|the lawn "
    "mower|the projector|the standing desk|the carpet|the juicer|the camping stove|the camera|the "
    "washing machine|the bunk bed|the rice cooker|the snowboard|the smart watch|the mirror"
).split("|")
PLACES = (
    "the hostel in Split|the new library|the climbing hall|the Thai restaurant|the beach near "
    "Tarragona|the co-working office|the botanical garden|the flea market|the cabin in Norway|the "
    "ice rink|the jazz club|the campsite|the bakery at the corner|the zoo|the old castle|the sauna|"
    "the language school|the vet's practice|the hotel in Prague|the science museum"
).split("|")
EVENTS = (
    "the wedding of my cousin|the job interview|the company retreat|the dentist appointment|the "
    "school concert|the half marathon|the parents' evening|the quiz night|the product launch|the "
    "moving day|the garden party|the eye test|the theatre trip|the budget meeting|the swimming "
    "lesson|the housewarming|the flight to Boston|the workshop on negotiation|the piano recital"
).split("|")
PEOPLE = (
    "my brother|my landlord|our new intern|my aunt|the electrician|my flatmate|our maths teacher|my "
    "boss|my neighbour|my best friend|the nurse|my father-in-law|our team lead|my niece|the lawyer|"
    "my roommate's sister|the gardener|our tax adviser|my trainer|the babysitter"
).split("|")
PROJECTS = (
    "the website relaunch|the kitchen renovation|the budget for next year|the trip to Vietnam|the "
    "training plan|the novel|the meal plan|the job application|the podcast|the vegetable garden|the "
    "thesis outline|the data migration|the birthday speech|the savings plan|the mobile game|the "
    "language course|the survey|the marketing campaign|the home office|the photo album"
).split("|")

Frame = tuple[str, str, str]
"""What follows, with a value as `{v}`; the values; and questions, with what it is about as `{x}`."""

FRAMES: dict[str, tuple[list[str], str, list[Frame]]] = {
    "thing": (
        THINGS,
        "We bought {x}.|I ordered {x} at last.|{X} is new.|I am so happy with {x}.|Should we sell {x}?|"
        "Have I told you about {x}?|I was thinking about {x} again.|Somebody asked me about {x}.|There "
        "was a problem with {x}.|My parents gave us {x}.",
        [
            (
                "It cost {v} euros.|I paid {v} for it.|{v} euros, would you believe it?",
                "40|85|120|260|315|480|599|720|1,100",
                "How much did {x} cost?|What did {S} pay for {x}?|The price of {x}?",
            ),
            (
                "It arrives on {v}.|They deliver it on {v}.|I can pick it up on {v}.",
                "Monday|Tuesday|Wednesday|Friday|Saturday",
                "When does {x} arrive?|On which day will {x} be delivered?|delivery of {x}",
            ),
            (
                "I put it in the {v}.|It stands in the {v} for now.|You will find it in the {v}.",
                "hall|garage|bedroom|attic|living room|corridor|office",
                "Where is {x}?|In which room did {S} put {x}?|What place did {x} get?",
            ),
            (
                "{v} recommended it to me.|It was {v} who talked me into it.|I got the idea from {v}.",
                "Marta|Dev|Pauline|my doctor|a colleague|my cousin|a shop assistant",
                "Who recommended {x}?|Who gave {S} the idea of {x}?",
            ),
            (
                "It broke after {v}.|After {v} it stopped working.|It only lasted {v}.",
                "two days|a week|a month|half a year|an hour",
                "How long did {x} last?|When did {x} break?",
            ),
            (
                "It is {v}, not my first choice.|The colour is {v}.|They only had it in {v}.",
                "green|yellow|dark blue|grey|orange|purple|white",
                "What colour is {x}?|In which colour did {S} get {x}?",
            ),
        ],
    ),
    "place": (
        PLACES,
        "Last weekend we went to {x}.|Do you know {x}?|I pass {x} every day.|We are thinking about {x}.|"
        "{X} was in the news.|My sister works at {x}.|I would like to try {x}.|We met at {x}.",
        [
            (
                "It is open until {v}.|They close at {v}.",
                "six|seven|eight|ten|midnight",
                "Until when is {x} open?|When does {x} close?|closing time of {x}",
            ),
            (
                "It was {v} there.|I found it {v}, to be honest.|Everybody says that place is {v}.",
                "crowded|lovely|too loud|overpriced|very quiet|rather dirty|magical",
                "How was {x}?|What did {S} think of {x}?|{S}'s impression of {x}?",
            ),
            (
                "You get there by {v}.|We went there by {v}.|The best way there is by {v}.",
                "bus|bike|train|boat|car",
                "How does one get to {x}?|How did {S} get to {x}?",
            ),
            (
                "A ticket there is {v} euros.|We paid {v} euros each there.",
                "5|8|12|19|25|33",
                "What does it cost to visit {x}?|What is the price at {x}?",
            ),
            (
                "I lost my {v} there.|I must have left my {v} there.",
                "scarf|wallet|phone|keys|sunglasses|umbrella",
                "What did {S} lose at {x}?|What was left behind at {x}?",
            ),
        ],
    ),
    "event": (
        EVENTS,
        "I am nervous about {x}.|Next week is {x}.|How did {x} go?|Did you hear about {x}?|I have been "
        "preparing for {x}.|{X} is coming up.|Do not forget {x}.|We talked about {x} all evening.",
        [
            (
                "It was moved to {v}.|It takes place on {v} instead.|They put it on {v}.",
                "Monday|Thursday|the 3rd|the 14th|the 28th|next month",
                "To when was {x} moved?|When does {x} take place?|new date of {x}",
            ),
            (
                "It went {v}.|All in all that was {v}.",
                "really well|badly|as expected|better than I feared|smoothly",
                "How did {x} go?|Was {S} satisfied with {x}?",
            ),
            (
                "{v} is coming along.|I am taking {v} with me.|{v} will be there, too.",
                "Tom|my mother|Lucie|my colleague Raj|the whole family|nobody",
                "Who comes along to {x}?|Whom does {S} take to {x}?",
            ),
            (
                "It takes {v}.|I was told that takes {v}.|That lasted {v}.",
                "twenty minutes|an hour|three hours|all day|the whole weekend",
                "How long does {x} take?|What is the duration of {x}?",
            ),
            (
                "I will wear my {v} for that.|I need to bring my {v}.",
                "black suit|passport|rain coat|laptop|sneakers|glasses",
                "What does {S} need for {x}?|What will {S} bring or wear to {x}?",
            ),
        ],
    ),
    "person": (
        PEOPLE,
        "I talked to {x}.|{X} called yesterday.|Have you met {x}?|I am worried about {x}.|{X} sends "
        "regards.|You would like {x}.|Guess who I saw: {x}.|I owe {x} a favour.",
        [
            (
                "{Pro} moved to {v}.|{Pro} lives in {v} these days.",
                "Turin|Bristol|Denver|Krakow|Malmo|Osaka|Nantes",
                "Where does {x} live?|Where did {x} move?",
            ),
            (
                "{Pro} is looking for {v}.|{Pro} asked whether I know where to get {v}.",
                "a flat|a new job|a used car|a tennis partner|a tutor",
                "What is {x} looking for?|What did {x} ask {O} about?",
            ),
            (
                "{Pro} turned {v} last week.|{Pro} has just celebrated: {v} years!",
                "24|31|38|45|52|60",
                "How old is {x}?|Which birthday did {x} have?",
            ),
            (
                "{Pro} told me that {v}.|According to {pro}, {v}.",
                "the rent goes up|the office is closing|there is a new baby|the dog ran away|the exam was hard",
                "What did {x} say?|What news did {x} have?",
            ),
            (
                "I cannot stand how {pro_s} {v}.|It bothers me that {pro_s} {v}.",
                "talks on the phone|is always late|borrows money|sings all day|never cleans up",
                "What bothers {O} about {x}?|Why is {S} annoyed with {x}?",
            ),
        ],
    ),
    "project": (
        PROJECTS,
        "I want to get on with {x}.|Can you help me with {x}?|Let's talk about {x}.|I made progress on "
        "{x}.|{X} is next on my list.|I have an update on {x}.|About {x}: where were we?",
        [
            (
                "The deadline for it is {v}.|It has to be done by {v}.|I want it finished by {v}.",
                "Friday|the end of May|mid June|next Tuesday|Christmas",
                "When is the deadline of {x}?|By when must {x} be done?|Can you remind me how much time I have left for {x}?",
            ),
            (
                "The limit is {v} euros for all of it.|I can spend {v} on that.",
                "300|900|1,500|4,000|12,000",
                "How much money is there for {x}?|What can {S} spend on {x}?|Let's go back to the costs of {x}.",
            ),
            (
                "I decided to start with {v}.|The first step will be {v}.",
                "a list|the drawings|the research|a call with an expert|the easy parts|a prototype",
                "How does {S} want to begin {x}?|What is the first step of {x}?|Let's continue with {x}, what did we want to do first?",
            ),
            (
                "{v} will help me with it.|I asked {v} to join.",
                "Carla|my brother|an agency|Ravi from work|the neighbours",
                "Who helps with {x}?|Whom did {S} ask to join {x}?",
            ),
            (
                "The hardest part is {v}.|What worries me most is {v}.|I am stuck at {v}.",
                "the timing|the money|the ending|finding the time|the legal side|the first page",
                "What is hard about {x}?|Where is {S} stuck in {x}?|I still have trouble with {x}. Any idea how to get past it?",
            ),
        ],
    ),
}
REPLIES = (
    "I see.",
    "Oh, nice.",
    "Really?",
    "Tell me more.",
    "And?",
    "Good to know.",
    "Hm, okay.",
    "Sure, go on.",
)
ASSISTANT = (
    "Happy to help with that! Here are a few things to consider: - **Goal**: what matters most to you - "
    "**Time**: how much you have - **Budget**: what you want to spend",
    "Great. Before we go on, a short summary: 1. You told me what it is about. 2. We collect what is "
    "known. 3. We decide what comes next.",
    "Thanks for sharing. Would you like me to look into options, compare them, or draft a plan?",
)


def references(count: int, turns: int, seed: int) -> list[History]:
    """Tell `count` histories of about `turns` turns; equal seeds tell equal ones."""
    return [_history(f"{seed} references {number}", turns) for number in range(count)]


def _history(name: str, turns: int) -> History:
    rng = Random(name)
    history = History(name)
    people = cast(rng)
    kind = ""
    told: dict[str, list[tuple[str, str, str, str]]] = {}
    used: set[str] = set()
    while len(history.turns) < turns:
        if not kind or rng.random() < 0.4:
            kind = rng.choice(list(FRAMES))
        subjects, openings, frames = FRAMES[kind]
        free = [subject for subject in subjects if subject not in used]
        if not free:
            kind = ""
            if all(set(each[0]) <= used for each in FRAMES.values()):
                break
            continue
        subject = rng.choice(free)
        used.add(subject)
        known = told.setdefault(kind, [])
        if known and rng.random() < 0.6:  # the same words as after another subject
            text, questions, _, _ = rng.choice(known)
        else:
            texts, values, questions = rng.choice(frames)
            pronoun = rng.choice(("He", "She"))
            text = rng.choice(texts.split("|")).format(
                v=rng.choice(values.split("|")),
                Pro=pronoun,
                pro={"He": "him", "She": "her"}[pronoun],
                pro_s=pronoun.lower(),
            )
            text = text[0].upper() + text[1:]
        known.append((text, questions, subject, kind))
        _episode(history, rng, people, subject, rng.choice(openings.split("|")), text, questions)
        for _ in range(rng.choice((0, 0, 1, 2))):
            speaker = rng.choice(people)
            history.say(speaker.name, rng.choice(SMALL_TALK))
    return history


def _episode(
    history: History,
    rng: Random,
    people: tuple[Person, Person],
    subject: str,
    opening: str,
    text: str,
    questions: str,
) -> None:
    """Say what it is about, perhaps something between, and what follows; ask about it."""
    who, other = rng.sample(people, 2) if not people[0].is_me else people
    history.say(who.name, opening.format(x=subject, X=subject[0].upper() + subject[1:]))
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        if other.name == "Assistant" and rng.random() < 0.5:
            history.say(other.name, rng.choice(ASSISTANT))
        else:
            history.say(other.name, rng.choice(REPLIES))
    place = history.say(who.name, text)
    about = subject.replace("my ", "{P} ") if subject.startswith("my ") else subject
    for question in rng.sample(questions.split("|"), min(2, len(questions.split("|")))):
        asked = who.question(question.replace("{x}", about))
        asked = asked.replace(" my ", " my " if who.is_me else f" {who.name}'s ")
        history.ask(asked, [place], "linked")
