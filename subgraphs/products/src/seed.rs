//! The demo catalogue: 228 products in a tree of 25 categories, the same each
//! time but for their identifiers.

use stoa_runtime::identity::Caller;
use stoa_schema::money::Currency;
use stoa_schema::{CategoryId, Money};

use crate::app::App;
use crate::domain::{NewProduct, ProductFilter};
use crate::error::Error;

/// A category of demo products: SKU prefix, name, lowest price in cents, the
/// products' names, and the start of their descriptions.
struct Shelf {
    prefix: &'static str,
    name: &'static str,
    from: i64,
    things: [&'static str; 4],
    about: &'static str,
}

const MATERIALS: [(&str, &str); 3] = [
    ("Classic", "The one that most people take."),
    ("Studio", "Made in small batches, with an eye for detail."),
    (
        "Travel",
        "Lighter and smaller, for those who are often under way.",
    ),
];

#[rustfmt::skip]
const TREE: &[(&str, &[Shelf])] = &[
    ("Kitchen", &[
        Shelf { prefix: "COF", name: "Coffee & Tea", from: 1290, things: ["Pour-over Kettle", "Espresso Cup", "Coffee Grinder", "Teapot"], about: "For a slow morning" },
        Shelf { prefix: "COO", name: "Cookware", from: 2490, things: ["Cast-iron Pan", "Saucepan", "Stockpot", "Wok"], about: "Heats evenly and lasts" },
        Shelf { prefix: "KNI", name: "Knives & Boards", from: 1890, things: ["Chef's Knife", "Bread Knife", "Paring Knife", "Cutting Board"], about: "Sharp, balanced, easy to hone" },
        Shelf { prefix: "TAB", name: "Tableware", from: 890, things: ["Dinner Plate", "Soup Bowl", "Mug", "Carafe"], about: "For every day and for guests" },
    ]),
    ("Home", &[
        Shelf { prefix: "LIG", name: "Lighting", from: 3490, things: ["Desk Lamp", "Floor Lamp", "Pendant", "Candle Holder"], about: "Warm light where it is wanted" },
        Shelf { prefix: "TEX", name: "Textiles", from: 1990, things: ["Wool Blanket", "Linen Cushion", "Cotton Towel", "Rug"], about: "Soft, washable, well woven" },
        Shelf { prefix: "STO", name: "Storage", from: 1490, things: ["Basket", "Shelf Box", "Wall Hook", "Toolbox"], about: "A place for everything" },
        Shelf { prefix: "PLA", name: "Plants & Pots", from: 990, things: ["Terracotta Pot", "Watering Can", "Plant Stand", "Herb Kit"], about: "For the green corner" },
    ]),
    ("Office", &[
        Shelf { prefix: "PAP", name: "Paper", from: 590, things: ["Notebook", "Sketchbook", "Planner", "Postcard Set"], about: "Paper that takes ink well" },
        Shelf { prefix: "PEN", name: "Writing", from: 790, things: ["Fountain Pen", "Mechanical Pencil", "Brush Pen", "Ink Bottle"], about: "Writes on the first stroke" },
        Shelf { prefix: "DES", name: "Desk", from: 2290, things: ["Desk Mat", "Monitor Stand", "Pen Tray", "Bookend"], about: "Order without effort" },
    ]),
    ("Outdoors", &[
        Shelf { prefix: "CAM", name: "Camping", from: 2990, things: ["Camp Stove", "Sleeping Mat", "Lantern", "Folding Chair"], about: "Packs small, sets up fast" },
        Shelf { prefix: "HIK", name: "Hiking", from: 1990, things: ["Daypack", "Water Bottle", "Trekking Pole", "Rain Cover"], about: "For long days on foot" },
        Shelf { prefix: "CYC", name: "Cycling", from: 1490, things: ["Bike Bell", "Handlebar Bag", "Floor Pump", "Bike Light"], about: "For the road and the lane" },
    ]),
    ("Games", &[
        Shelf { prefix: "BOA", name: "Board Games", from: 2490, things: ["Strategy Game", "Party Game", "Chess Set", "Dice Set"], about: "For two or for the whole table" },
        Shelf { prefix: "PUZ", name: "Puzzles", from: 1290, things: ["Jigsaw", "Wooden Cube", "Tangram", "Marble Maze"], about: "Hours of quiet fun" },
        Shelf { prefix: "TOY", name: "Wooden Toys", from: 990, things: ["Train Set", "Building Blocks", "Spinning Top", "Pull-along Dog"], about: "Safe paint, round corners" },
    ]),
    ("Audio", &[
        Shelf { prefix: "HEA", name: "Headphones", from: 4990, things: ["Over-ear Headphones", "Earbuds", "Headphone Stand", "Audio Cable"], about: "Hear what was recorded" },
        Shelf { prefix: "SPE", name: "Speakers", from: 6990, things: ["Bookshelf Speaker", "Bluetooth Speaker", "Turntable", "Radio"], about: "Fills a room, not the street" },
    ]),
];

/// Fills an empty catalogue; returns how many products it created.
///
/// # Errors
/// If the database fails. Products created before that stay, and the next start
/// does not add the rest: a catalogue with products is left alone.
pub async fn seed(app: &App) -> Result<usize, Error> {
    if app.product_count(&ProductFilter::default()).await? > 0 {
        return Ok(0);
    }
    let caller = Caller::Service {
        name: "seed".to_owned(),
    };
    let mut made = 0;
    for (top, shelves) in TREE {
        let top = app.category_create(&caller, top, None).await?;
        for shelf in *shelves {
            let category = app
                .category_create(&caller, shelf.name, Some(top.id.clone()))
                .await?;
            made += stock_shelf(app, &caller, shelf, &category.id).await?;
        }
    }
    Ok(made)
}

async fn stock_shelf(
    app: &App,
    caller: &Caller,
    shelf: &Shelf,
    category: &CategoryId,
) -> Result<usize, Error> {
    let mut made = 0;
    for (kind, thing) in (0_i64..).zip(shelf.things) {
        for (variant, (material, note)) in (0_i64..).zip(MATERIALS) {
            let number = kind * 3 + variant + 1;
            let cents = shelf.from + kind * 850 + variant * 600;
            app.product_create(
                caller,
                NewProduct {
                    sku: format!("{}-{number:03}", shelf.prefix),
                    name: format!("{material} {thing}"),
                    description: format!("{}. {note}", shelf.about),
                    price: Some(Money::new(cents, Currency::EUR)),
                    category_id: Some(category.clone()),
                    // A few are scarce, so that a demo can run out of them.
                    stock: if number == 12 { 3 } else { 40 + number * 7 },
                },
            )
            .await?;
            made += 1;
        }
    }
    Ok(made)
}
