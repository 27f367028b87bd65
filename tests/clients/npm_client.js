// The requests of Octopus Deploy's own client for JavaScript, against a server whose address and key are given.
// Every step must succeed, and the last must fail as it would there.

const assert = require("node:assert");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const octopus = require("@octopusdeploy/api-client");

async function main(instanceURL, apiKey) {
  const client = await octopus.Client.create({ userAgentApp: "test", instanceURL, apiKey });
  assert.match((await client.getServerInformation()).version, /^20\d\d\./);
  assert.equal((await octopus.userGetCurrent(client)).Username, "admin");

  const spaces = new octopus.SpaceRepository(client);
  assert.equal((await spaces.list({ partialName: "Def" })).Items[0].Name, "Default");
  const managers = { SpaceManagersTeams: ["teams-administrators"], SpaceManagersTeamMembers: [] };
  const space = await spaces.create({ Name: "From npm", ...managers, IsDefault: false });
  await spaces.del(await spaces.modify({ ...space, TaskQueueStopped: true }));
  assert.equal((await spaces.list({})).TotalResults, 1);

  const environments = new octopus.EnvironmentRepository(client, "Default");
  const made = await environments.create({ Name: "Production" });
  assert.equal((await environments.list({ ids: [made.Id], take: 10 })).Items[0].Slug, "production");
  await environments.del(made);
  await assert.rejects(environments.get(made.Id), (error) => error.StatusCode === 404);

  const tags = [{ Name: "a", Color: "#ECAD3F", Description: "" }];
  await new octopus.TagSetRepository(client, "Default").create({ Name: "Tags", Tags: tags });
  const tenants = new octopus.TenantRepository(client, "Default");
  for (const [name, own] of [["T", ["Tags/a"]], ["U", []]]) {
    await tenants.create({ Name: name, ProjectEnvironments: {}, TenantTags: own });
  }
  const tagged = await tenants.list({ tags: ["Tags/a"] });
  assert.deepEqual(tagged.Items.map((tenant) => tenant.Name), ["T"]);
  const keep = { QuantityToKeep: 1, ShouldKeepForever: false, Unit: "Items" };
  const lifecycle = { Name: "L", Phases: [], ReleaseRetentionPolicy: keep, TentacleRetentionPolicy: keep };
  await new octopus.LifecycleRepository(client, "Default").create(lifecycle);
  assert.match(await octopus.checkForCapability(client, "CreateReleaseCommandV1", "2022.3"), /does not support/);

  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "packages-"));
  try {
    const file = path.join(directory, "Acme.Web.1.2.3.zip");
    fs.writeFileSync(file, "content");
    const packages = new octopus.PackageRepository(client, "Default");
    await packages.push([file]);
    await assert.rejects(packages.push([file]));
    await packages.push([file], octopus.OverwriteMode.IgnoreIfExists);
    await packages.push([file], octopus.OverwriteMode.OverwriteExisting);
    const { Items: found } = await packages.list({ nuGetPackageId: "Acme.Web" });
    assert.deepEqual(found.map((one) => [one.PackageId, one.Version]), [["Acme.Web", "1.2.3"]]);
    assert.equal((await packages.get(found[0].Id)).Title, "Acme.Web");
  } finally {
    fs.rmSync(directory, { recursive: true });
  }

  const { Id: task } = await client.doCreate("~/api/tasks", { Name: "Health", Arguments: {} });
  const tasks = new octopus.SpaceServerTaskRepository(client, "Default");
  assert.equal((await tasks.getById(task)).Id, task);
  assert.equal((await tasks.getByIds([task])).length, 1);
  assert.equal((await tasks.getDetails(task)).Task.Id, task);
  const ended = await new octopus.ServerTaskWaiter(client, "Default").waitForServerTaskToComplete(task, 200, 20000);
  assert.equal(ended.State, "Success");

  const projects = new octopus.ProjectRepository(client, "Default");
  await assert.rejects(projects.list({ take: 1 }), (error) => error.StatusCode === 404);
}

// After an upload this client waits for the server to close an idle connection.
main(...process.argv.slice(2)).then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
