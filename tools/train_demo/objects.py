"""What the demo model can draw: objects of Noto Color Emoji by name, and background colours."""

# (name, plural, character). A name may have several words; every word becomes one token.
# Chosen for being told apart at a glance: no two faces or vehicles that differ in details only.
OBJECTS = [
    ("cat", "cats", "🐱"), ("dog", "dogs", "🐶"), ("mouse", "mice", "🐭"), ("rabbit", "rabbits", "🐰"),
    ("fox", "foxes", "🦊"), ("bear", "bears", "🐻"), ("panda", "pandas", "🐼"), ("koala", "koalas", "🐨"),
    ("tiger", "tigers", "🐯"), ("lion", "lions", "🦁"), ("cow", "cows", "🐮"), ("pig", "pigs", "🐷"),
    ("frog", "frogs", "🐸"), ("monkey", "monkeys", "🐵"), ("chick", "chicks", "🐥"), ("penguin", "penguins", "🐧"),
    ("owl", "owls", "🦉"), ("unicorn", "unicorns", "🦄"), ("bee", "bees", "🐝"), ("ladybug", "ladybugs", "🐞"),
    ("butterfly", "butterflies", "🦋"), ("turtle", "turtles", "🐢"), ("octopus", "octopuses", "🐙"), ("crab", "crabs", "🦀"),
    ("fish", "fishes", "🐟"), ("tropical fish", "tropical fishes", "🐠"), ("whale", "whales", "🐳"), ("dolphin", "dolphins", "🐬"),
    ("shark", "sharks", "🦈"), ("elephant", "elephants", "🐘"), ("snail", "snails", "🐌"), ("dragon", "dragons", "🐲"),
    ("duck", "ducks", "🦆"), ("hedgehog", "hedgehogs", "🦔"), ("snake", "snakes", "🐍"), ("sheep", "sheep", "🐑"),
    ("apple", "apples", "🍎"), ("green apple", "green apples", "🍏"), ("pear", "pears", "🍐"), ("tangerine", "tangerines", "🍊"),
    ("lemon", "lemons", "🍋"), ("banana", "bananas", "🍌"), ("watermelon", "watermelons", "🍉"), ("grapes", "grapes", "🍇"),
    ("strawberry", "strawberries", "🍓"), ("cherry", "cherries", "🍒"), ("peach", "peaches", "🍑"), ("pineapple", "pineapples", "🍍"),
    ("coconut", "coconuts", "🥥"), ("kiwi", "kiwis", "🥝"), ("tomato", "tomatoes", "🍅"), ("avocado", "avocados", "🥑"),
    ("carrot", "carrots", "🥕"), ("eggplant", "eggplants", "🍆"), ("broccoli", "broccolis", "🥦"), ("mushroom", "mushrooms", "🍄"),
    ("bread", "breads", "🍞"), ("cheese", "cheeses", "🧀"), ("hamburger", "hamburgers", "🍔"), ("pizza", "pizzas", "🍕"),
    ("hot dog", "hot dogs", "🌭"), ("fries", "fries", "🍟"), ("egg", "eggs", "🍳"), ("doughnut", "doughnuts", "🍩"),
    ("cookie", "cookies", "🍪"), ("cake", "cakes", "🎂"), ("cupcake", "cupcakes", "🧁"), ("ice cream", "ice creams", "🍦"),
    ("lollipop", "lollipops", "🍭"), ("coffee", "coffees", "☕"), ("beer", "beers", "🍺"), ("cocktail", "cocktails", "🍹"),
    ("tree", "trees", "🌳"), ("pine tree", "pine trees", "🌲"), ("palm tree", "palm trees", "🌴"), ("cactus", "cactuses", "🌵"),
    ("sunflower", "sunflowers", "🌻"), ("tulip", "tulips", "🌷"), ("rose", "roses", "🌹"), ("blossom", "blossoms", "🌸"),
    ("clover", "clovers", "🍀"), ("maple leaf", "maple leaves", "🍁"), ("sun", "suns", "🌞"), ("moon", "moons", "🌙"),
    ("star", "stars", "⭐"), ("cloud", "clouds", "⛅"), ("rainbow", "rainbows", "🌈"), ("fire", "fires", "🔥"),
    ("water drop", "water drops", "💧"), ("snowman", "snowmen", "⛄"), ("earth", "earths", "🌎"), ("volcano", "volcanoes", "🌋"),
    ("red heart", "red hearts", "❤"), ("blue heart", "blue hearts", "💙"), ("green heart", "green hearts", "💚"), ("yellow heart", "yellow hearts", "💛"),
    ("smiley", "smileys", "😀"), ("robot", "robots", "🤖"), ("ghost", "ghosts", "👻"), ("alien", "aliens", "👽"),
    ("pumpkin", "pumpkins", "🎃"), ("skull", "skulls", "💀"), ("car", "cars", "🚗"), ("bus", "buses", "🚌"),
    ("fire engine", "fire engines", "🚒"), ("tractor", "tractors", "🚜"), ("rocket", "rockets", "🚀"), ("airplane", "airplanes", "✈"),
    ("helicopter", "helicopters", "🚁"), ("sailboat", "sailboats", "⛵"), ("train", "trains", "🚂"), ("bicycle", "bicycles", "🚲"),
    ("ufo", "ufos", "🛸"), ("house", "houses", "🏠"), ("castle", "castles", "🏰"), ("tent", "tents", "⛺"),
    ("basketball", "basketballs", "🏀"), ("football", "footballs", "⚽"), ("tennis ball", "tennis balls", "🎾"), ("trophy", "trophies", "🏆"),
    ("guitar", "guitars", "🎸"), ("drum", "drums", "🥁"), ("dice", "dice", "🎲"), ("gift", "gifts", "🎁"),
    ("balloon", "balloons", "🎈"), ("crown", "crowns", "👑"), ("hat", "hats", "🎩"), ("umbrella", "umbrellas", "☂"),
    ("bell", "bells", "🔔"), ("key", "keys", "🔑"), ("alarm clock", "alarm clocks", "⏰"), ("light bulb", "light bulbs", "💡"),
]

COLOURS = {
    "white": (250, 250, 250), "black": (20, 20, 24), "gray": (128, 128, 132), "red": (214, 40, 46),
    "orange": (245, 140, 40), "yellow": (252, 220, 70), "green": (60, 160, 75), "cyan": (80, 205, 225),
    "blue": (45, 90, 215), "purple": (120, 55, 165), "pink": (250, 160, 195), "brown": (105, 65, 40),
}


def held_out(obj, colour):
    """True for the tenth of the object and colour pairs that training never shows."""
    return (obj * 7 + colour * 3 + obj // 10) % 10 == 0
