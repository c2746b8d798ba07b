package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

func (e *Env) rebalance() *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use: "rebalance [--dry-run]", Args: cobra.NoArgs,
		Short: "Spread the addresses that stayed with their nodes",
		Long: `rebalance gives the addresses of Announcements with failback: Never back to the nodes
that are preferred for them, and lists them. It writes one annotation,
fairlead.io/rebalance with the time, to each of these Announcements; for that you need
the right to patch announcements. The agents hand the addresses over as in a drain:
somebody answers all the time, and connections that are open end. If nothing would move,
it writes nothing.`,
		Example: "  fairlead rebalance --dry-run",
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only list what would move")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o, c, err := e.read(cmd.Context())
		if err != nil {
			return blind(err)
		}
		s := o.State()
		moves := s.Moves()
		for _, m := range moves {
			e.screen().line("%s  from %s to %s", m.Addr, m.From, m.To)
		}
		if dry || len(moves) == 0 {
			e.screen().line("addresses to move: %d", len(moves))
			return nil
		}
		for _, an := range s.Announcements {
			if !an.FailbackNever {
				continue
			}
			if err := spread(cmd.Context(), c, an.Name); err != nil {
				return blind(err)
			}
		}
		e.screen().line("addresses that move now: %d", len(moves))
		return nil
	}
	return cmd
}

// spread writes the annotation to an Announcement.
func spread(ctx context.Context, c *Client, announcement string) error {
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.AnnotationRebalance, c.Now().UTC().Format(time.RFC3339Nano))
	_, err := c.Dynamic.Resource(v1alpha1.GroupVersion.WithResource("announcements")).Patch(ctx, announcement, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("announcement %s: %w", announcement, err)
	}
	return nil
}
