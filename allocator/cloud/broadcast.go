package cloud

import "sync"

// broadcast wakes everybody who waits for the next ring. The zero broadcast is ready.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{}
}

// next is closed at the next ring.
func (b *broadcast) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}
