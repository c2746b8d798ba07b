package controller

import (
	"path/filepath"
	"strings"
	"testing"

	toolsrecord "k8s.io/client-go/tools/record"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/internal/test/apitest"
	"github.com/fairlead/fairlead/internal/test/storytest"
)

// TestStories tells the allocator's stories to the controller. When it has
// acted, acting again must write nothing.
func TestStories(t *testing.T) {
	storytest.EachIn(t, "../../allocator/testdata", func(t *testing.T, file string) {
		t.Parallel()
		api := apitest.New()
		c := patient(api.Clients)
		c.Recorder = &toolsrecord.FakeRecorder{}
		api.Store = c.Store
		api.Start(t)
		api.Tell(t, storytest.Read(t, file), func(opt allocator.Options) error {
			c.Options = opt
			if err := c.step(t.Context()); err != nil {
				return err
			}
			// A prefix is forgotten once the records of its addresses are gone.
			if strings.HasPrefix(filepath.Base(file), "prefix-") {
				if err := c.step(t.Context()); err != nil {
					return err
				}
			}
			return api.Quiet(func() error { return c.step(t.Context()) })
		})
	})
}
