package controller_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/cli"
)

// run runs one of the commands for people as user, or as an administrator, and
// returns what it prints and its exit code.
func (c *cluster) run(user string, args ...string) (out string, code int) {
	c.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", server.Kubeconfig)
	c.must(err)
	if user != "" {
		cfg.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:authenticated"}}
	}
	var text bytes.Buffer
	env := &cli.Env{Out: &text, Err: &text, Version: "test", Connect: func() (*cli.Client, error) { return cli.ClientOf(cfg) }}
	for _, cmd := range env.Commands() {
		if cmd.Name() != args[0] {
			continue
		}
		cmd.SetArgs(args[1:])
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		err := cmd.ExecuteContext(c.Context())
		var exit *cli.Exit
		if errors.As(err, &exit) {
			if exit.Err != nil {
				fmt.Fprintln(&text, exit.Err)
			}
			return text.String(), exit.Code
		}
		c.must(err)
		return text.String(), 0
	}
	c.Fatalf("no command %q", args[0])
	return "", 0
}

// TestExplainAgreesWithConditions: what explain says of a Service is what the
// controller wrote, word for word, of every Service.
func TestExplainAgreesWithConditions(t *testing.T) {
	c := newCluster(t)
	c.pool("lan", "192.0.2.0/31")
	c.start(options)
	c.service("held")
	c.holds("held", "192.0.2.0")
	c.service("taken", note(v1alpha1.AnnotationAddresses, "192.0.2.0"))
	c.service("nowhere", note(v1alpha1.AnnotationPool, "dmz"))
	for name, reason := range map[string]string{"taken": "AddressInUse", "nowhere": "PoolNotFound"} {
		condition := c.refused(name, reason)
		out, code := c.run("", "explain", "default/"+name)
		why, _, _ := strings.Cut(condition.Message, ". Next: ") // explain has a line for what to do
		if code != 1 || !strings.Contains(out, reason+": "+why) {
			t.Errorf("exit %d, want 1 and %s: %s\n%s", code, reason, condition.Message, out)
		}
	}
	out, _ := c.run("", "explain", "default/held")
	for _, want := range []string{"✔ address     192.0.2.0 from pool lan", "✔ record", "✔ status"} {
		if !strings.Contains(out, want) {
			t.Errorf("want %q in\n%s", want, out)
		}
	}
}

// TestRolesForPeople: the chart's roles are enough for what docs/cli.md says, and
// without them the commands say what is missing.
func TestRolesForPeople(t *testing.T) {
	c := newCluster(t)
	c.pool("lan", "192.0.2.0/31")
	c.roles("view", "admin", "support")
	if out, code := c.run("nobody", "status"); code != 2 || !strings.Contains(out, "you may not list addresspools: ask for the ClusterRole fairlead-support") {
		t.Errorf("without a role: exit %d\n%s", code, out)
	}
	// 1: nobody runs the controllers and agents here.
	if out, code := c.run("support", "doctor"); code != 1 || strings.Contains(out, "FL0108") || !strings.Contains(out, "FL0101") {
		t.Errorf("with the role support: exit %d\n%s", code, out)
	}
	file := filepath.Join(t.TempDir(), "archive.tar.gz")
	if out, code := c.run("support", "collect", "--file", file); code != 0 || !strings.HasPrefix(out, file+": ") {
		t.Errorf("collect: exit %d\n%s", code, out)
	}
	as := func(user string, do ...string) error {
		_, err := server.Kubectl(t.Context(), append([]string{"--as=" + user, "--as-group=system:authenticated"}, do...)...)
		return err
	}
	c.must(as("view", "get", "addresspools,addresses,nodestates"))
	c.must(as("admin", "patch", "addresspool", "lan", "--type=merge", "-p", `{"spec":{"priority":1}}`))
	if as("view", "auth", "can-i", "delete", "addresspools.fairlead.io") == nil {
		t.Error("view may delete a pool")
	}
	if as("admin", "auth", "can-i", "delete", "addresses.fairlead.io") == nil {
		t.Error("admin may delete Addresses")
	}
}

// roles makes the chart's roles for people and binds each to the user of the same
// name.
func (c *cluster) roles(names ...string) {
	c.Helper()
	bind := c.Kube.RbacV1()
	for _, doc := range strings.Split(c.render("default"), "\n---\n") {
		var role rbacv1.ClusterRole
		if !strings.Contains(doc, "kind: ClusterRole\n") || yaml.Unmarshal([]byte(doc), &role) != nil {
			continue
		}
		for _, name := range names {
			if role.Name != "fairlead-"+name {
				continue
			}
			_, err := bind.ClusterRoles().Create(c.Context(), &role, metav1.CreateOptions{})
			c.must(err)
			_, err = bind.ClusterRoleBindings().Create(c.Context(), &rbacv1.ClusterRoleBinding{
				ObjectMeta: metav1.ObjectMeta{Name: role.Name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
				Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}},
			}, metav1.CreateOptions{})
			c.must(err)
			c.Cleanup(func() {
				c.must(bind.ClusterRoleBindings().Delete(context.Background(), role.Name, metav1.DeleteOptions{}))
				c.must(bind.ClusterRoles().Delete(context.Background(), role.Name, metav1.DeleteOptions{}))
			})
		}
	}
	c.eventually("the roles", func() error {
		for _, name := range names {
			if out, err := server.Kubectl(c.Context(), "auth", "can-i", "list", "addresspools.fairlead.io", "--as="+name, "--as-group=system:authenticated"); err != nil {
				return fmt.Errorf("%s: %s: %w", name, out, err)
			}
		}
		return nil
	})
}

// TestClocks: how long ago something was is told by the API server's clock.
func TestClocks(t *testing.T) {
	c := newCluster(t)
	cfg, err := clientcmd.BuildConfigFromFlags("", server.Kubeconfig)
	c.must(err)
	client, err := cli.ClientOf(cfg)
	c.must(err)
	_, err = client.Kube.Discovery().ServerVersion()
	c.must(err)
	if off := time.Until(client.Now()).Abs(); off > 3*time.Second {
		t.Errorf("the clocks of one machine differ by %s", off)
	}
}
