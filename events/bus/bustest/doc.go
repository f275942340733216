// Package bustest starts a throwaway bus for a test: an embedded server on a
// temporary directory, with all streams, that ends with the test.
package bustest
