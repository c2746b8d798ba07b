package controller

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	toolsrecord "k8s.io/client-go/tools/record"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/internal/test/apitest"
)

// TestStories tells the allocator's stories to the controller. When it has
// acted, acting again must write nothing.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("../../allocator/testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			api := apitest.New()
			c := New(Config{Clients: api.Clients, Log: slog.New(slog.DiscardHandler)})
			c.Recorder = &toolsrecord.FakeRecorder{}
			api.Store = c.Store
			api.Start(t)
			api.Tell(t, data, func(opt allocator.Options) error {
				c.Options = opt
				if err := c.step(t.Context()); err != nil {
					return err
				}
				return api.Quiet(func() error { return c.step(t.Context()) })
			})
		})
	}
}
