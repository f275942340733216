// Package eventstest holds the typed checks of payloads and their JSON Schemas
// together: both must accept exactly the same data.
package eventstest
