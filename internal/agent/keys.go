package agent

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/fairlead/fairlead/internal/keyring"
)

// followKeys gives the gossip the keys: first those that the last agent kept, so
// that no API server is needed, then whatever the Secret holds.
func (a *Agent) followKeys(ctx context.Context) error {
	if signers, err := load(a.cfg.StateDir, signersFile, keyring.ParseSigners); err != nil {
		a.cfg.Log.Warn("cannot use the saved keys of nodes", "error", err)
	} else if signers != nil {
		a.signers.Set(signers)
	}
	if keys, err := load(a.cfg.StateDir, keysFile, keyring.Parse); err != nil {
		a.cfg.Log.Warn("cannot use the saved keys", "error", err)
	} else if keys != nil {
		a.setKeys(keys)
	}
	byName := informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, keyring.Secret).String()
	})
	secrets := informers.NewSharedInformerFactoryWithOptions(a.cfg.Clients.Kube, 0, informers.WithNamespace(a.cfg.Namespace), byName).Core().V1().Secrets().Informer()
	if _, err := secrets.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    a.takeKeys,
		UpdateFunc: func(_, obj any) { a.takeKeys(obj) },
		// The keys of a Secret that is gone stay in use until there is another.
	}); err != nil {
		return fmt.Errorf("informer: %w", err)
	}
	secrets.Run(ctx.Done())
	return nil
}

// setKeys has all that agents say to each other sealed by keys.
func (a *Agent) setKeys(keys keyring.Keys) {
	a.gossip.SetKeys(keys)
	a.reach.watcher.SetKeys(keys)
}

func (a *Agent) takeKeys(obj any) {
	secret, ok := obj.(*corev1.Secret)
	if !ok {
		return
	}
	keys, err := keyring.Parse(secret.Data[keyring.Data])
	if err != nil {
		a.cfg.Log.Error("cannot read the agents' keys: the known ones stay in use", "secret", keyring.Secret, "error", err)
		return
	}
	signers, err := keyring.ParseSigners(secret.Data[keyring.DataSigners])
	if err != nil {
		a.cfg.Log.Error("cannot read the keys of nodes: the known ones stay in use", "secret", keyring.Secret, "error", err)
		signers = nil
	}
	// The signers first: they are what an agent that starts believes reports by.
	if signers != nil {
		a.signers.Set(signers)
		err = save(a.cfg.StateDir, signersFile, signers.Format())
	}
	a.setKeys(keys)
	if err := errors.Join(err, save(a.cfg.StateDir, keysFile, keys.Format())); err != nil {
		a.cfg.Log.Error("the agents' keys", "error", err)
	}
}

// The files in an agent's folder, which root alone can read.
const (
	keysFile    = "members.keys"    // that the gossip is encrypted with
	signersFile = "members.signers" // that nodes sign their reports with
	reportFile  = "report.key"      // that this node signs its reports with: the seed
)

// keyPaths returns the files with keys in dir.
func keyPaths(dir string) (out []string) {
	for _, name := range []string{keysFile, signersFile, reportFile} {
		out = append(out, filepath.Join(dir, name))
	}
	return out
}

// save writes a file in dir for the next agent, readable by root alone.
func save(dir, name string, data []byte) error {
	if dir == "" {
		return nil
	}
	// After a crash the next agent has to find this file whole, or the one before.
	f, err := os.CreateTemp(dir, "members-*.new") // mode 0600
	if err != nil {
		return fmt.Errorf("save keys: %w", err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("save keys: %w", err), os.Remove(f.Name()))
	}
	return nil
}

// load reads what the last agent saved in dir; nothing if there is no such file.
func load[T any](dir, name string, parse func([]byte) (T, error)) (out T, err error) {
	if dir == "" {
		return out, nil
	}
	text, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err == nil {
		out, err = parse(text)
	}
	if err != nil {
		return out, fmt.Errorf("load keys: %w", err)
	}
	return out, nil
}

// reportKey returns the key that the agent of this node signs its reports with. It is made
// once and kept in dir. With an error, or without a dir, it is good for this agent alone:
// the other agents believe its reports once the controller has told them the key.
func reportKey(dir string) (ed25519.PrivateKey, error) {
	key, err := load(dir, reportFile, parseSeed)
	if err == nil && key != nil {
		return key, nil
	}
	seed := make([]byte, ed25519.SeedSize)
	_, _ = rand.Read(seed) // never fails
	return ed25519.NewKeyFromSeed(seed), errors.Join(err, save(dir, reportFile, base64.StdEncoding.AppendEncode(nil, seed)))
}

func parseSeed(text []byte) (ed25519.PrivateKey, error) {
	seed, err := base64.StdEncoding.AppendDecode(nil, bytes.TrimSpace(text))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, errors.New("not the key of a node") // and it is not to be printed
	}
	return ed25519.NewKeyFromSeed(seed), nil
}
