package controller

import (
	"log/slog"
	"time"

	"github.com/fairlead/fairlead/internal/kube"
)

// patient makes a Controller for a test that steps it itself. A step of it ends when all that
// it has begun has ended, however slow the machine is. So what a test reads after a step is
// all that the step does, and nothing writes while the test reads.
func patient(clients *kube.Clients) *Controller {
	c := New(Config{Clients: clients, Log: slog.New(slog.DiscardHandler)})
	c.items.Patience = time.Hour
	return c
}
