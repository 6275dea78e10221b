pub fn place() {
    tracing::info!(order = super::order::number());
}
