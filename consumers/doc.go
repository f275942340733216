// Package consumers runs handlers with side effects on a feed of accepted events:
// it keeps each one's position, retries with backoff, and puts what a handler gives
// up on into the dead letters, so that one poison event stops nobody.
//
// Delivery is at least once: a crash between a handler's effect and the storing of
// the position repeats the event. A handler makes its effect repeatable by deriving
// ids from the event, see events.DerivedID.
package consumers
