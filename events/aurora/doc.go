// Package aurora holds the facts of layer 3: treaties with providers of compute,
// the routes that jobs took under them, and service levels.
package aurora
