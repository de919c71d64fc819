package redistest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

const slots = 16384

// ClusterConfig says how a cluster is to be.
type ClusterConfig struct {
	// Replicas is the number of replicas of each of the three masters.
	Replicas int
	// Node is for every node. Persist is not meant for it.
	Node Config
}

// Cluster is a Redis Cluster with three masters.
type Cluster struct {
	// Nodes are the masters in the order of their slots, then the replicas: that of master i is Nodes[3+i].
	Nodes []*Server
}

// StartCluster starts a cluster and waits until all of its nodes agree that it serves. A node that does not answer for a second is
// taken for failed by the others.
func StartCluster(t testing.TB, cfg ClusterConfig) *Cluster {
	t.Helper()
	need(t)
	const masters = 3
	c := &Cluster{}
	for range masters * (1 + cfg.Replicas) {
		node := &Server{t: t, cfg: cfg.Node, dir: t.TempDir()}
		node.cfg.Args = append([]string{"--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf",
			"--cluster-node-timeout", "1000", "--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"},
			cfg.Node.Args...)
		node.launch(clusterPort)
		c.Nodes = append(c.Nodes, node)
	}
	first := c.Nodes[0]
	for i, node := range c.Nodes {
		node.Must("CLUSTER", "SET-CONFIG-EPOCH", i+1)
		if i < masters {
			node.Must("CLUSTER", "ADDSLOTSRANGE", i*slots/masters, (i+1)*slots/masters-1)
		}
		if i > 0 {
			node.Must("CLUSTER", "MEET", "127.0.0.1", first.Port())
		}
	}
	for _, node := range c.Nodes {
		await(t, func() error {
			return expect(node.Text("CLUSTER", "INFO"), fmt.Sprintf("cluster_known_nodes:%d", len(c.Nodes)))
		})
	}
	for i, node := range c.Nodes[masters:] {
		master := c.Nodes[i%masters].Text("CLUSTER", "MYID")
		await(t, func() error {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_, err := node.Do(ctx, "CLUSTER", "REPLICATE", master)
			return err
		})
	}
	for _, node := range c.Nodes {
		await(t, func() error { return expect(node.Text("CLUSTER", "INFO"), "cluster_state:ok") })
	}
	for _, node := range c.Nodes[masters:] {
		await(t, func() error { return expect(node.Text("INFO", "replication"), "master_link_status:up") })
		// Only a replica that all masters know of as one gets their votes.
		for _, other := range c.Nodes {
			id := node.Text("CLUSTER", "MYID")
			await(t, func() error { return knowsReplica(other.Text("CLUSTER", "NODES"), id) })
		}
	}
	return c
}

// Addrs are the addresses of all nodes.
func (c *Cluster) Addrs() []string {
	out := make([]string, len(c.Nodes))
	for i, n := range c.Nodes {
		out[i] = n.Addr()
	}
	return out
}

// Owner is the node that serves the slot of key. During a failover it waits until one does.
func (c *Cluster) Owner(key string) *Server {
	t := c.Nodes[0].t
	t.Helper()
	var owner *Server
	await(t, func() error {
		for _, node := range c.Nodes {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			_, err := node.Do(ctx, "GET", key)
			cancel()
			// Redis checks the slot before the type, so a key of another type shows its owner too.
			if err == nil || strings.HasPrefix(err.Error(), "WRONGTYPE") {
				owner = node
				return nil
			}
		}
		return fmt.Errorf("no node serves key %s", key)
	})
	return owner
}

func knowsReplica(nodes, id string) error {
	for line := range strings.Lines(nodes) {
		if strings.HasPrefix(line, id) && strings.Contains(line, "slave") {
			return nil
		}
	}
	return fmt.Errorf("node %s is not known as a replica in:\n%s", id, nodes)
}

func expect(text, part string) error {
	if strings.Contains(text, part) {
		return nil
	}
	return fmt.Errorf("no %q in:\n%s", part, text)
}
