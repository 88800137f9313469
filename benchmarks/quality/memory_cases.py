"""Follow-ups that are meaningless without the turn before them: hand-written, in no training data.

Each line holds two alternative openings, the follow-up to either of them, and a question about the first
and one about the second.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """Two openings, the follow-up to either, and a question about each."""

    openings: tuple[str, str]
    follow_up: str
    questions: tuple[str, str]


def _cases(text: str) -> tuple[Case, ...]:
    cases = []
    for line in text.strip().splitlines():
        left, right, follow_up, first, second = (part.strip() for part in line.split("|"))
        cases.append(Case((left, right), follow_up, (first, second)))
    return tuple(cases)


CASES = _cases("""
I finally ordered the telescope. | I finally ordered the sewing machine. | It should get here on Thursday. | When does the telescope arrive? | When does the sewing machine arrive?
My nephew started at the fire brigade. | My dentist closed her practice. | That came as a real surprise to all of us. | What was surprising about the nephew? | What was surprising about the dentist?
The ferry to Gotland was fully booked. | The night train to Zagreb was fully booked. | So we postponed it until the autumn. | When are we taking the ferry to Gotland? | When are we taking the night train to Zagreb?
We had the chimney inspected. | We had the septic tank inspected. | They said it is good for another ten years. | How long will the chimney last? | How long will the septic tank last?
Grandpa carved a wooden owl. | Grandpa repaired the accordion. | He gave it to me for my birthday. | Who has the wooden owl now? | Who has the accordion now?
I signed up for the pottery class. | I signed up for the beekeeping course. | It costs ninety a month, which is fine. | How much is the pottery class? | How much is the beekeeping course?
The choir is rehearsing the requiem. | The robotics club is building a submarine. | They want to show it in June. | When will the requiem be performed? | When will the submarine be shown?
Our greenhouse lost its roof in the storm. | Our rowing boat sank in the storm. | The insurance will pay for half of it. | Does the insurance cover the greenhouse? | Does the insurance cover the rowing boat?
Bernadette is back from Patagonia. | Bernadette is back from the clinic. | She says it changed how she looks at things. | How did Patagonia affect Bernadette? | How did the stay at the clinic affect Bernadette?
We are thinking about a heat pump. | We are thinking about a wood stove. | The installer quoted eleven thousand. | What would the heat pump cost? | What would the wood stove cost?
I tried the vegan cheesecake. | I tried the pickled herring. | Honestly, it was better than I expected. | How was the vegan cheesecake? | How was the pickled herring?
The marathon in Rotterdam is sold out. | The opera in Verona is sold out. | Maybe someone resells a ticket. | How could one still get into the marathon? | How could one still get into the opera?
Our neighbour keeps alpacas. | Our neighbour keeps peacocks. | They make a racket at dawn. | What noise do the alpacas make? | What noise do the peacocks make?
The museum acquired a meteorite. | The museum acquired a harpsichord. | You can see it on the second floor. | Where is the meteorite shown? | Where is the harpsichord shown?
I handed in my thesis on glaciers. | I handed in my tax return. | I will hear back in six weeks. | When will there be news about the thesis? | When will there be news about the tax return?
They planted a ginkgo in front of the library. | They put a vending machine in front of the library. | Vandals damaged it the same night. | What happened to the ginkgo? | What happened to the vending machine?
Have you seen my goggles? | Have you seen my stapler? | No idea, maybe look for that in the basement. | Where could the goggles be? | Where could the stapler be?
The mayor wants a tram line. | The mayor wants a skate park. | The council will vote on it next week. | When is the vote on the tram line? | When is the vote on the skate park?
I am learning Icelandic. | I am learning to juggle. | It is harder than it looks, but I practise daily. | How is learning Icelandic going? | How is the juggling going?
Priscilla bought a lighthouse. | Priscilla bought a food truck. | She paid for it with her inheritance. | How did Priscilla finance the lighthouse? | How did Priscilla finance the food truck?
The sourdough starter died. | The laptop's fan died. | I have a spare one from Ulrike. | Is there a replacement for the sourdough starter? | Is there a replacement for the fan?
We adopted two ferrets from the shelter. | We rented two kayaks from the outfitter. | The kids could not stop grinning. | How did the children like the ferrets? | How did the children like the kayaks?
My knee surgery is scheduled. | My driving test is scheduled. | It is on the twelfth at eight in the morning. | When is the knee surgery? | When is the driving test?
What do you think of the musical about the cartographer? | What do you think of the film about the beekeeper? | I left halfway, too slow for me. | Was the musical about the cartographer watched to the end? | Was the film about the beekeeper watched to the end?
The team chose Postgres for the billing data. | The team chose Kotlin for the mobile app. | Gernot was strongly against it. | Who opposed Postgres? | Who opposed Kotlin?
Should we keep the newsletter? | Should we keep the help desk on weekends? | No, nobody uses it any more. | What was decided about the newsletter? | What was decided about the weekend help desk?
The warehouse in Antwerp is full. | The warehouse in Tampere is full. | So we rent a hall beside it from next month. | What happens as Antwerp has no room? | What happens as Tampere has no room?
I proposed to Delphine at the lake. | I interviewed with the space agency. | The answer was yes! | What did Delphine say? | How did the space agency decide?
Our landlord installed smoke detectors. | Our landlord installed a bike rack. | It took him three years to get round to that. | How long did it take until there were smoke detectors? | How long did it take until there was a bike rack?
The violin belonged to my great-aunt. | The typewriter belonged to my great-aunt. | I had it restored last winter. | When was the violin restored? | When was the typewriter restored?
Could you look at the invoice from the caterer? | Could you look at the contract with the florist? | Something about the amount is odd. | What is wrong with the caterer's invoice? | What is wrong with the florist's contract?
Mum sent a parcel from Lisbon. | Mum sent a parrot-shaped lamp. | It was broken when I opened the box. | In what state did the parcel from Lisbon arrive? | In what state did the parrot-shaped lamp arrive?
I spoke to the plumber. | I spoke to the notary. | He can come by on Monday afternoon. | When does the plumber have time? | When does the notary have time?
The documentary about deep-sea mining is online. | The recording of the school play is online. | You need a password to watch it, I will send mine. | How can one watch the deep-sea documentary? | How can one watch the school play?
Teodor moved to Reykjavik. | Teodor moved to Marrakesh. | He complains about the weather there. | How does Teodor find Reykjavik? | How does Teodor find Marrakesh?
We tested the new vaccine on ferrets. | We tested the new glue on ceramics. | The results were far from convincing. | How did the vaccine test go? | How did the glue test go?
I have been asked to judge the pie contest. | I have been asked to chair the parents' council. | I said no, I have too much on my plate. | Will I judge the pie contest? | Will I chair the parents' council?
The elevator is stuck again. | The printer is jammed again. | The technician is on the way. | Who is going to fix the elevator? | Who is going to fix the printer?
Ottilie wants to become a pilot. | Ottilie wants to become a nun. | Her parents are not thrilled. | What do the parents think of Ottilie flying? | What do the parents think of Ottilie entering a convent?
Do you still have the recipe for goulash? | Do you still have the key to the allotment? | Yes, it is on the fridge. | Where is the goulash recipe? | Where is the key to the allotment?
The orchard had a terrible harvest. | The vineyard had a terrible harvest. | The late frost is to blame. | Why did the orchard yield so little? | Why did the vineyard yield so little?
I joined a band that plays ska. | I joined a club that restores tractors. | We meet every second Friday. | When does the ska band meet? | When do the tractor restorers meet?
The bridge over the canyon was closed. | The indoor pool was closed. | It will not open again before spring. | When does the bridge open again? | When does the pool open again?
My passport expires in May. | My gym membership expires in May. | I am not going to renew it. | Will the passport be renewed? | Will the gym membership be renewed?
We hired a clown for Leopold's birthday. | We hired a piano tuner for Leopold. | He turned up an hour late. | Was the clown on time? | Was the piano tuner on time?
I read that octopuses have three hearts. | I read that bamboo can grow a metre a day. | I had no idea, who would have thought. | What was news about octopuses? | What was news about bamboo?
Svetlana is allergic to walnuts. | Svetlana is allergic to latex. | She found out in the emergency room. | How was the walnut allergy discovered? | How was the latex allergy discovered?
The start-up makes edible spoons. | The start-up makes hearing aids. | They ran out of money last month. | What became of the edible spoons company? | What became of the hearing aids company?
I lent Fritz my drill. | I lent Fritz my tent. | He never gave it back. | What happened to the drill? | What happened to the tent?
How was the trip to the salt mine? | How was the lecture on tax law? | Two hours too long, but funny in places. | What was the salt mine like? | What was the tax law lecture like?
Our daughter drew a map of Mars. | Our daughter wrote a poem on rain. | Her teacher hung it in the hallway. | Where is the map of Mars displayed? | Where is the poem on rain displayed?
The choir director resigned. | The goalkeeper resigned. | Nobody knows why. | Why did the choir director leave? | Why did the goalkeeper leave?
I upgraded the router's firmware. | I upgraded the thermostat. | Since then it reboots every night. | What problem does the router have? | What problem does the thermostat have?
Lorenzo opened a cheese shop. | Lorenzo opened a detective agency. | Business is slow so far. | How is the cheese shop doing? | How is the detective agency doing?
The city wants to tear down the water tower. | The city wants to tear down the cinema. | I signed a petition against that. | What did I do for the water tower? | What did I do for the cinema?
I saw a wolf behind the barn. | I saw a comet above the barn. | I only got a blurry photo. | Is there a picture of the wolf? | Is there a picture of the comet?
We should visit the bog at Hautes Fagnes. | We should visit the tulip auction. | You need rubber boots and have to be there at five. | What does one need for the bog? | What does one need for the tulip auction?
The baby got her first tooth. | The puppy had his first swim. | We were so proud, we told everyone. | How did we react to the tooth? | How did we react to the puppy's swim?
I am knitting a cardigan for Ingeborg. | I am building a dollhouse for Ingeborg. | It has to be finished by Advent. | By when must the cardigan be done? | By when must the dollhouse be done?
Cyril was elected to parliament. | Cyril was expelled from school. | His sister told me on the phone. | Who told me about Cyril's election? | Who told me about Cyril's expulsion?
The soup needs more lemongrass. | The wall needs another coat of paint. | I will do that after lunch. | When will the lemongrass be added? | When will the wall be painted?
I left my umbrella in the tram. | I left my clarinet in the tram. | The lost property office has it. | Where is the umbrella? | Where is the clarinet?
Our flight to Nairobi was cancelled. | Our audit by the ministry was cancelled. | They offered us a new date in March. | When could we fly to Nairobi instead? | When could the audit take place instead?
Do you like the wallpaper with the cranes? | Do you like the ringtone with the frogs? | Not at all, it gets on my nerves. | What is the opinion on the crane wallpaper? | What is the opinion on the frog ringtone?
I promised Yusra a ride to the airport. | I promised Yusra help with chemistry. | I completely forgot, she must be furious. | What did I forget about the airport? | What did I forget about chemistry?
The physiotherapist gave me exercises. | The accountant gave me a checklist. | I have not looked at it once. | Have the exercises been done? | Has the accountant's list been used?
The hedgehog in our garden has babies. | The bakery on our street has a new owner. | Since then we go out to look every morning. | What do we do because of the hedgehog? | What do we do because of the bakery?
Vikram broke the record in free diving. | Vikram broke his collarbone. | It was on the local news. | Was Vikram's diving record reported? | Was Vikram's fracture reported?
Which colour did you choose for the canoe? | Which colour did you choose for the pantry? | A dark green, it was the cheapest. | What colour is the canoe? | What colour is the pantry?
The cellar smells of mould. | The car smells of petrol. | I aired it all weekend, without success. | What was done about the mould smell? | What was done about the petrol smell?
I want to propose a four-day week. | I want to propose a company dog. | My boss will laugh at me. | How will the boss take the four-day week? | How will the boss take the company dog?
Anneliese paints icons. | Anneliese breeds orchids. | She has done it since she was twelve. | Since when does Anneliese paint icons? | Since when does Anneliese breed orchids?
The court ruled on the noise complaint. | The jury decided on the chess problem prize. | We lost, but we can appeal. | What was the outcome of the noise complaint? | What was the outcome of the chess problem prize?
I bought a share in a wind farm. | I bought a jar of truffle honey. | In hindsight it was far too expensive. | Was the wind farm share worth the money? | Was the truffle honey worth the money?
The scanner at the clinic is new. | The carousel at the fair is new. | It makes me dizzy. | What effect does the scanner have? | What effect does the carousel have?
They cancelled my favourite podcast on volcanoes. | They cancelled my favourite yoga retreat. | I wrote them an angry letter. | How did I react to the end of the volcano podcast? | How did I react to the end of the yoga retreat?
Malik wants to hike the ridge in winter. | Malik wants to quit medical school. | I tried to talk him out of it. | What did I say about the winter hike? | What did I say about quitting medical school?
The statue of the admiral was moved. | The farmers' market was moved. | It is now behind the station. | Where does the admiral stand now? | Where is the farmers' market now?
We lost the bid for the hospital. | We won the bid for the stadium. | The client called me in person. | How did we hear about the hospital bid? | How did we hear about the stadium bid?
I have a blister from the new skates. | I have a stain on the new sofa. | Do you know a remedy? | Is advice wanted for a blister? | Is advice wanted for a stain?
The tortoise hid under the shed. | The burglar hid under the shed. | It took the neighbours an hour to end that. | How long did it take to get the tortoise out? | How long did it take to get the burglar out?
Rosalind teaches origami. | Rosalind teaches fencing. | Her classes are always full. | Are the origami classes popular? | Are the fencing classes popular?
Please book the table at the tapas bar. | Please book the court for squash. | Done, for half past seven. | For what time is the tapas bar booked? | For what time is the squash court booked?
My pension fund invests in tobacco. | My pension fund invests in lithium. | I asked them to stop that. | What did I ask about tobacco? | What did I ask about lithium?
The interpreter fell ill. | The dishwasher broke down. | We found a substitute within a day. | Who replaced the interpreter? | What replaced the dishwasher?
I am reading about the Hanseatic League. | I am reading about quantum sensors. | My brother recommended the book. | Who suggested the book on the Hanseatic League? | Who suggested the book on quantum sensors?
The zebra crossing is hardly visible. | The exit sign is hardly visible. | Someone has to report that. | What should happen about the zebra crossing? | What should happen about the exit sign?
I dreamt about my old maths teacher. | I ran into my old football coach. | He looked exactly as he did then. | How did the maths teacher look? | How did the football coach look?
The magazine printed my crossword. | The radio played my song. | They did not even mention my name. | Was I credited for the crossword? | Was I credited for the song?
We are getting a stairlift for Nana. | We are getting a canary for Nana. | She does not know yet, it is a secret. | Does Nana know about the stairlift? | Does Nana know about the canary?
The glacier tour starts at dawn. | The blood test starts at dawn. | Do not eat anything before it. | What must one mind before the glacier tour? | What must one mind before the blood test?
I had my astronomy exam today. | I had my first shift at the bar today. | It went terribly, I mixed everything up. | How was the astronomy exam? | How was the first shift at the bar?
Egon found a Roman coin. | Egon found a stray kitten. | He took it to the town hall. | Where did Egon take the Roman coin? | Where did Egon take the kitten?
The drone regulations were tightened. | The fishing quotas were tightened. | My cousin is suing over that. | Who fights the drone rules? | Who fights the fishing quotas?
Did the beavers come back? | Did the migraines come back? | Yes, twice this month. | How often were the beavers there? | How often were there migraines?
I subscribed to a flower delivery. | I subscribed to a wine newspaper. | I keep forgetting to cancel it. | What about ending the flower delivery? | What about ending the wine newspaper?
The quarry offers guided dives. | The monastery offers silent weekends. | We did that last summer, never again. | Would we dive in the quarry again? | Would we go to the monastery again?
Hildegard lost her wedding ring. | Hildegard lost her job at the port. | She cried on the phone for an hour. | How did Hildegard take the loss of the ring? | How did Hildegard take the loss of her job?
The tender for the cable car is out. | The casting for the musical is out. | The deadline is the end of the month. | What is the deadline of the cable car tender? | What is the deadline of the musical casting?
Our septuagenarian club went bungee jumping. | Our book club went to Transylvania. | I still cannot believe we did that. | How do I feel about the bungee jump? | How do I feel about Transylvania?
""")
