// Package snapshot holds the nouns that every decision reads: immutable,
// sorted values without any API object inside. A Snapshot is made once by
// internal/kube and never changed afterwards; who needs another one makes
// another one. Pointers inside it are shared between successive Snapshots when
// nothing about the object changed, so pointer identity may be used to skip work.
package snapshot
