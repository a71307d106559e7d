//! The event bus of ergon, a durable background-task queue: ring, subscriptions, observers, journal tail.
