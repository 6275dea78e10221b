//! What runs in the background.

use std::sync::Arc;

use stoa_schema::events::ORDER_SUBJECTS;
use stoa_service::bus::Bus;
use stoa_service::consume::consume;
use stoa_service::outbox::Relay;
use stoa_service::service::Task;

use crate::app::App;
use crate::hub::Hub;

/// The name of the durable consumer that fills the inboxes.
const INBOX_CONSUMER: &str = "notifications-inbox";

/// What runs for as long as the process does.
pub fn background(app: &App, relay: Relay, hub: Hub, bus: Arc<dyn Bus>) -> Vec<Task> {
    vec![
        Box::pin(relay.run()),
        Box::pin(hub.run()),
        Box::pin(fill_inboxes(app.clone(), bus)),
    ]
}

/// Turns order events into notifications until the process ends.
async fn fill_inboxes(app: App, bus: Arc<dyn Bus>) {
    consume(bus, INBOX_CONSUMER, ORDER_SUBJECTS, move |message| {
        let app = app.clone();
        async move { app.order_event_receive(&message).await }
    })
    .await;
}
