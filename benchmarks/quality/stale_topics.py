"""The topics and wordings of the histories of `stale`, half of each held out.

A topic has wordings of its first value, of a new value, of memories of an old value, and of
questions. The halves share no topic and no wording of a question.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Topic:
    """Something that has one value at a time. Wordings are separated by "|"."""

    noun: str
    values: str
    told: str
    """Statements of the first value; `{v}` is the value, here and in the next two fields."""
    changed: str
    recalled: str
    """Mentions of an old value after it has changed."""
    asked: str
    """Questions for the current value, without a word for time."""
    was: str
    """A question for an earlier value, without its end."""
    remarks: str
    """Remarks about the topic that do not mention its value."""


@dataclass(frozen=True, slots=True)
class Wordings:
    """Wordings of the questions of one half; `{noun}`, `{was}` and `{v}`, a value, are filled in."""

    now: tuple[str, ...]
    """Endings of a question for the current value."""
    latest: tuple[str, ...]
    first: tuple[str, ...]
    before: tuple[str, ...]
    named: tuple[str, ...]
    times: tuple[str, ...]
    begun: tuple[str, ...]
    """Statements that a plan begins; `{v}` is the plan."""
    cancelled: tuple[str, ...]
    holds: tuple[str, ...]
    """Questions whether the plan still holds."""
    plans: tuple[str, ...]
    """Plans that can be cancelled."""


DEVELOPMENT = (
    Topic(
        "home town",
        "Bergen|Oslo|Ghent|Porto|Leipzig",
        "I live in {v}, near the river.|My flat is in {v}.",
        "I moved to {v} last week.|The boxes are unpacked, and {v} is home.|We settled in {v}.",
        "In {v} it rained all the time.|The bread in {v} was better.",
        "Where do I live?|In which town is my flat?|What city am I living in?",
        "Where did I live",
        "The lift in our house is broken again.|I painted the kitchen of my flat green.",
    ),
    Topic(
        "dose",
        "5 mg|10 mg|20 mg|40 mg|15 mg",
        "My dose is {v} a day.|I take {v} every morning.",
        "The doctor put me on {v}.|My dose is {v}.|It has to be {v} a day, says the clinic.",
        "On {v} I felt dizzy.|The leaflet for {v} was longer.",
        "What is my dose?|How much do I take a day?|Which dose am I on?",
        "Which dose was I on",
        "I forgot my pills at home today.|The pharmacy was out of my pills.",
    ),
    Topic(
        "car",
        "Fiat|Volvo|Skoda|Toyota|Renault",
        "I drive a {v}.|My car is an old {v}.",
        "I picked up the {v} from the dealer.|The {v} in front of the house is mine.|I drive a {v}.",
        "The {v} never started in winter.|I got a fair price for the {v}.",
        "Which car do I drive?|What do I drive?|What make is my car?",
        "Which car did I drive",
        "I need winter tyres.|Somebody scratched my car at the supermarket.",
    ),
    Topic(
        "employer",
        "Norsk Hydro|Bosch|the city library|a bakery called Korn|Siemens",
        "I work for {v}.|My job is at {v}.",
        "I signed the contract with {v}.|Monday was my first day at {v}.|{v} pays my salary.",
        "The canteen at {v} was awful.|People at {v} were kind.",
        "Who do I work for?|Where do I work?|Which company employs me?",
        "Where did I work",
        "The canteen at work has a new cook.|I have to write a report for my boss.",
    ),
    Topic(
        "weekly running distance",
        "12 km|20 km|28 km|35 km",
        "I run {v} a week.|My weekly total is {v}.",
        "My plan says {v} a week.|I am up to {v} a week.|The coach wants {v} from me each week.",
        "With {v} a week my knee was fine.|{v} a week felt easy.",
        "How far do I run a week?|What is my weekly distance?|How many kilometres do I run each week?",
        "How far did I run a week",
        "My running shoes are worn out.|I ran in the rain this morning.",
    ),
    Topic(
        "project deadline",
        "3 March|17 March|2 April|30 April|9 May",
        "The project is due on {v}.|Our deadline is {v}.",
        "The client agreed to {v}.|Delivery is set for {v}.|The deadline was moved to {v}.",
        "{v} was never realistic.|Nobody believed in {v}.",
        "When is the project due?|What is our deadline?|By which date do I deliver the project?",
        "When was the project due",
        "The project needs a better name.|I wrote the third chapter of the project report.",
    ),
    Topic(
        "dentist",
        "Dr. Holm|Dr. Weiss|Dr. Okafor|Dr. Lindqvist",
        "My dentist is {v}.|I see {v} for my teeth.",
        "I changed to {v} for my teeth.|{v} looks after my teeth.|My dentist is {v}.",
        "{v} always ran late.|The practice of {v} smelled of cloves.",
        "Who is my dentist?|Who looks after my teeth?|Which dentist do I see?",
        "Who was my dentist",
        "I have a toothache on the left side.|My teeth were cleaned yesterday.",
    ),
    Topic(
        "coffee order",
        "a flat white|an espresso|an oat latte|a cortado",
        "My coffee is {v}.|I always order {v}.",
        "I ask for {v} at the bar.|My order is {v}.|These mornings it is {v} for me.",
        "{v} kept me awake.|I liked the foam on {v}.",
        "What coffee do I order?|How do I take my coffee?|What is my usual order at the bar?",
        "What coffee did I order",
        "The bar around the corner has new cups.|I spilled my coffee on the keyboard.",
    ),
    Topic(
        "rent",
        "650 euros|720 euros|810 euros|940 euros",
        "My rent is {v}.|I pay {v} a month for the flat.",
        "The landlord asks for {v}.|The rent went up to {v}.|I pay {v} for the flat.",
        "{v} was a bargain.|I could hardly afford {v} then.",
        "How much is my rent?|What do I pay for the flat?|What does the flat cost me a month?",
        "How much was my rent",
        "The heating in the flat makes noises.|The landlord repaired the front door.",
    ),
    Topic(
        "instrument",
        "the cello|the clarinet|the banjo|the harp",
        "I play {v}.|My instrument is {v}.",
        "I took up {v}.|I practise {v} in the evenings.|My teacher lent me {v}.",
        "{v} hurt my fingers.|The neighbours hated {v}.",
        "Which instrument do I play?|What instrument am I learning?|What do I practise?",
        "Which instrument did I play",
        "The concert was sold out.|I have to practise more for the concert in June.",
    ),
    Topic(
        "password manager",
        "KeyRing|Vaulty|PassNest|Lockbird",
        "I keep my passwords in {v}.|My password manager is {v}.",
        "I switched to {v} for passwords.|All my logins are in {v}.|{v} fills in my passwords.",
        "{v} crashed twice.|The colours of {v} were ugly.",
        "Which password manager do I use?|Where are my passwords?|What holds my logins?",
        "Which password manager did I use",
        "I forgot one of my passwords again.|They made me change the password at work.",
    ),
    Topic(
        "yoga day",
        "Monday|Tuesday|Thursday|Saturday",
        "Yoga is on {v} evening.|I do yoga on {v}.",
        "The studio put yoga on {v}.|My yoga class meets on {v}.|Yoga is on {v}.",
        "{v} was always crowded.|On {v} the teacher was another one.",
        "When is my yoga class?|On which day do I do yoga?|What day is yoga?",
        "On which day was yoga",
        "My yoga mat has a hole.|In yoga we did headstands.",
    ),
    Topic(
        "laptop",
        "ThinkPad|MacBook|Framework|Zenbook",
        "My laptop is a {v}.|I write this on a {v}.",
        "The {v} has arrived, and all files are on it.|I work on a {v}.|My desk has a {v} on it.",
        "The {v} was loud.|The keys of the {v} stuck.",
        "Which laptop do I have?|What computer do I work on?|What is my laptop?",
        "Which laptop did I have",
        "I lost a key of my laptop's keyboard.|The battery of my laptop is weak.",
    ),
    Topic(
        "team size",
        "four people|seven people|nine people|twelve people",
        "My team has {v}.|We are {v} in the team.",
        "With the new hires we are {v}.|The team has {v}.|I lead {v}.",
        "With {v} lunch was simple.|As {v} we had one room.",
        "How big is my team?|How many people are in my team?|How many people do I lead?",
        "How big was my team",
        "My team went bowling.|We have a new printer in the team's office.",
    ),
)

HELD_OUT = (
    Topic(
        "flatmate",
        "Jonas|Amira|Pavel|Chiara",
        "I share the flat with {v}.|My flatmate is called {v}.",
        "{v} took the other room.|{v} has the second key to the flat.|I share the kitchen with {v}.",
        "{v} never did the dishes.|{v} sang in the shower.",
        "Who is my flatmate?|Who shares the flat with me?|Who do I share the kitchen with?",
        "Who was my flatmate",
        "Our flat needs a new sofa.|The dishes in the shared kitchen pile up.",
    ),
    Topic(
        "phone number",
        "555 0134|555 0188|555 0162|555 0117",
        "You reach me at {v}.|My phone number is {v}.",
        "Please write down {v} for me.|Call me on {v}.|The provider gave me {v}.",
        "With {v} I got calls for a pizzeria.|{v} was easy to remember.",
        "What is my phone number?|Which number reaches me?|How can one call me?",
        "What number did I have",
        "My phone fell into the sink.|I had three missed calls.",
    ),
    Topic(
        "diet",
        "vegetarian|vegan|low-carb|gluten-free",
        "I eat {v}.|My meals are {v}.",
        "The whole kitchen is {v}.|I cook {v}.|My doctor told me to eat {v}.",
        "Being {v} was hard on holidays.|{v} food bored me.",
        "How do I eat?|What diet am I on?|What kind of food do I cook?",
        "How did I eat",
        "I burned the dinner.|I bought a new pan for the kitchen.",
    ),
    Topic(
        "gym",
        "Ironworks|the Dockside gym|PulsePoint|Atlas Hall",
        "I train at {v}.|My gym is {v}.",
        "I got my card for {v}.|I lift at {v}.|{v} has my locker.",
        "The showers at {v} were cold.|{v} played dreadful music.",
        "Which gym do I go to?|Where do I train?|Where is my locker?",
        "Where did I train",
        "I pulled a muscle while training.|I lost the key of my locker.",
    ),
    Topic(
        "savings goal",
        "2,000 dollars|3,500 dollars|5,000 dollars|8,000 dollars",
        "I want to save {v} this year.|My savings goal is {v}.",
        "I aim for {v} in the bank.|The goal stands at {v}.|With the bonus I am going for {v}.",
        "{v} was too modest.|{v} sounded like a lot.",
        "How much do I want to save?|What is my savings goal?|What am I aiming to put aside?",
        "How much did I want to save",
        "The bank closed its branch in our street.|I bought no coffee for a week, to save money.",
    ),
    Topic(
        "manager",
        "Ingrid|Thabo|Mrs. Keller|Rafael",
        "My manager is {v}.|I report to {v}.",
        "After the reorganisation {v} runs our group.|{v} signs my holidays.|I report to {v}.",
        "{v} wrote emails at night.|Meetings with {v} were short.",
        "Who is my manager?|Who do I report to?|Who runs our group?",
        "Who was my manager",
        "I have my yearly review with the boss next week.|Our group got new chairs.",
    ),
    Topic(
        "meeting room",
        "Aspen|Birch|Juniper|Maple",
        "The stand-up is in room {v}.|We meet in {v}.",
        "Facilities gave us {v} for the stand-up.|The stand-up takes place in {v}.|Come to {v} for it.",
        "{v} had no windows.|The screen in {v} flickered.",
        "Where is the stand-up?|In which room do we meet?|Which room is ours for the stand-up?",
        "Where was the stand-up",
        "The stand-up took forty minutes.|Somebody brought cake to the stand-up.",
    ),
    Topic(
        "language course",
        "Finnish|Arabic|Swahili|Korean",
        "I study {v} in the evenings.|My course is in {v}.",
        "I enrolled for {v}.|Every night I do my {v} vocabulary.|My textbook is one for {v}.",
        "{v} grammar drove me mad.|I liked the sound of {v}.",
        "What language do I study?|Which language am I learning?|What is my evening course in?",
        "What language did I study",
        "I learned ten new words tonight.|My teacher speaks too fast.",
    ),
    Topic(
        "cat food",
        "Purrfect|Whiskline|Katzenglück|Felidia",
        "Our cat eats {v}.|I feed the cat {v}.",
        "The vet prescribed {v} for the cat.|The cat gets {v}.|A sack of {v} stands in the hall.",
        "The cat spat out {v}.|{v} smelled of fish.",
        "What does the cat eat?|Which food does our cat get?|What do I feed the cat?",
        "What did the cat eat",
        "The cat sleeps on the radiator.|The cat has to go to the vet for a vaccination.",
    ),
    Topic(
        "flight time",
        "6:40 am|9:15 am|1:20 pm|7:55 pm",
        "My flight leaves at {v}.|I fly at {v}.",
        "The airline rebooked me to {v}.|Take-off is at {v}.|The ticket says {v}.",
        "{v} was too early for the train.|{v} suited me.",
        "When does my flight leave?|What time do I fly?|At what time is take-off?",
        "When did my flight leave",
        "I still have to pack for the flight.|The airport has a new terminal.",
    ),
    Topic(
        "health insurer",
        "Salva|MediCore|Helia|Northshield",
        "My health insurance is with {v}.|{v} insures me.",
        "My card is from {v}.|{v} pays my bills at the doctor's.|I signed with {v} for insurance.",
        "{v} refused my glasses.|The hotline of {v} was hopeless.",
        "Who insures me?|Which health insurer do I have?|Who is my health insurance with?",
        "Who insured me",
        "I broke my glasses.|The doctor sent me a bill.",
    ),
    Topic(
        "hair colour",
        "copper|black|silver blond|chestnut",
        "My hair is {v}.|I wear my hair {v}.",
        "The hairdresser made me {v}.|My hair is {v}.|The mirror shows me in {v}.",
        "{v} washed out quickly.|My aunt liked {v} on me.",
        "What colour is my hair?|What is my hair colour?|Which colour do I wear my hair in?",
        "What colour was my hair",
        "I need a haircut.|My hair was full of sand after the beach.",
    ),
    Topic(
        "bus line",
        "the 14|the 27|the 63|the 8",
        "I take {v} to work.|My bus is {v}.",
        "{v} brings me to the office.|I catch {v} in the morning.|My stop is served by {v}.",
        "{v} was always late.|On {v} I never got a seat.",
        "Which bus do I take?|How do I get to the office?|Which line brings me to work?",
        "Which bus did I take",
        "The bus driver greeted me by name.|I left my umbrella on the bus.",
    ),
    Topic(
        "book of the month",
        "Salt Roads|The Glass Orchard|Winter Ferry|A House of Reeds",
        "Our reading circle reads {v}.|The book on my night table is {v}.",
        "The circle voted for {v}.|I am in the middle of {v}.|We discuss {v} at the next meeting.",
        "{v} had a weak ending.|Everybody cried over {v}.",
        "Which book do I read with the circle?|What are we reading?|What is on my night table?",
        "Which book did we read",
        "The reading circle meets at Clara's.|I need a new lamp for my night table.",
    ),
)

WORDINGS = {
    "development": Wordings(
        now=("now", "currently", "today"),
        latest=("What is my latest {noun}?", "What is my most recent {noun}?"),
        first=("{was} at first?", "What was my first {noun}?", "{was} at the very beginning?"),
        before=("{was} before {v}?", "What was my {noun} before it was {v}?"),
        named=("When did I mention {v} as my {noun}?", "Did I ever speak of {v} as my {noun}?"),
        times=("How many times has my {noun} changed?", "List every {noun} I have had."),
        begun=("I signed up for {v}.", "I booked {v}."),
        cancelled=("I cancelled {v}.", "{v} is off, I called it off today."),
        holds=("Am I signed up for {v}?", "Do I have {v}?", "Is {v} on?"),
        plans=(
            "the pottery course on Tuesdays",
            "the ferry to Harwich",
            "the newspaper subscription",
            "the table at Luigi's for Friday",
            "the sailing lessons",
            "the allotment garden",
        ),
    ),
    "held out": Wordings(
        now=("these days", "at the moment", "as of now"),
        latest=("What's the newest {noun} you know of?", "Tell me the last {noun} I gave you."),
        first=("{was} originally?", "What {noun} did I start with?", "{was} in the early days?"),
        before=("{was} prior to {v}?", "Which {noun} came ahead of {v}?"),
        named=("What did I say about {v} as my {noun}?", "On which day was my {noun} {v}?"),
        times=("How often did my {noun} change?", "Which {noun}s have I gone through?"),
        begun=("I put my name down for {v}.", "I have got a place in {v}."),
        cancelled=("I pulled out of {v}.", "There won't be {v} for me, I told them."),
        holds=("Do I go to {v}?", "Does {v} still stand?", "Am I part of {v}?"),
        plans=(
            "the chess tournament in Lund",
            "the night train to Vienna",
            "the wine tasting",
            "the first-aid training",
            "the choir tour",
            "the beekeeping workshop",
        ),
    ),
}
"""Half → how its questions are asked."""

TOPICS = {"development": DEVELOPMENT, "held out": HELD_OUT}
"""Half → what its histories are about."""
