// Package deploy tests tools/deploy-flyio-cluster.sh as it is, with a stand-in for Fly's command line tool on PATH (see package
// standin). What the script asks of a Machine is answered by the real flyproxy.
package deploy
