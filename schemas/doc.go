// Package schemas holds what VaultMesh promises to programs in other languages:
// the JSON Schema 2020-12 of every event's data and of the messages on HEADS and
// SEALS, a folder a layer, and the AsyncAPI document of the bus.
package schemas
