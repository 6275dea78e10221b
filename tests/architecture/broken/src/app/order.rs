use super::cart::place;

pub fn number() -> u32 {
    place();
    crate::graphql::render()
}
